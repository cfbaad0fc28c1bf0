"""What a worker's gradient was, against one computed by itself."""

from contextlib import ExitStack

import pytest
import torch

import largebatch as lb
from largebatch.probes import WorkerGradients


def setup(network, count=4, **more):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, lb.Workers(model, optimizer, count=count, **more)


def own(model, loss, x, y, count, places=None):
    """Every worker's gradient, a list over layers of (count, ...)."""
    found = []
    for i, (xi, yi) in enumerate(zip(x.chunk(count), y.chunk(count), strict=True)):
        with ExitStack() as stack:
            if places is not None:
                stack.enter_context(places(i))
            found.append(torch.autograd.grad(loss(xi, yi), list(model.parameters())))
    return [torch.stack(each) for each in zip(*found, strict=True)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_are_those_of_each_worker_where_it_looked(at_once, network, batches, loss_of):
    # Red: the mean, the buffer that is overwritten, gradients at the clean weights.
    model, optimizer, workers = setup(network, perturb=lb.GNC(alpha=5.0))
    kept = WorkerGradients()
    workers.listen(kept)
    for x, y in batches(3, 8):
        expected = own(model, loss_of(model), x, y, 4, workers.at)
        workers.backward(loss_of(model), x, y, at_once=at_once)
        assert kept.layers == [name for name, _ in model.named_parameters()]
        assert kept.workers == 4
        torch.testing.assert_close(list(kept.rows()), expected, rtol=1e-9, atol=1e-12)
        means = [rows.mean(0) for rows in kept.rows()]
        torch.testing.assert_close(means, [p.grad for p in model.parameters()])
        optimizer.step()
    assert expected[0].std(0).max() > 1e-3


def test_of_losses_that_add_up_it_is_the_gradient_over_the_share(network, batches, loss_of):
    model, _, workers = setup(network, reduction="sum")
    kept = WorkerGradients()
    workers.listen(kept)
    [(x, y)] = batches(1, 8)
    expected = own(model, loss_of(model), x, y, 4)
    workers.backward(lambda a, b: loss_of(model)(a, b) / 4, x, y)
    torch.testing.assert_close(list(kept.rows()), expected)


def test_kept_in_a_dtype_of_choice_at_the_bytes_it_says(network, batches, loss_of):
    model, _, workers = setup(network)
    kept = WorkerGradients(dtype=torch.float32)
    workers.listen(kept)
    [(x, y)] = batches(1, 8)
    workers.backward(loss_of(model), x, y)
    assert {rows.dtype for rows in kept.rows()} == {torch.float32}
    assert kept.bytes_kept == 4 * 4 * sum(p.numel() for p in model.parameters())
    kept.free()
    assert kept.bytes_kept == kept.workers == 0
    with pytest.raises(RuntimeError, match="no gradients are kept: attach it"):
        next(kept.rows())
    workers.backward(loss_of(model), x, y)
    assert kept.workers == 4


def test_short_groups_unreached_parameters_and_steps_begun_anew(network, batches, loss_of):
    # Red: rows of workers of an earlier step; a layer that a worker does not reach left as it was.
    model, _, workers = setup(network)
    kept = WorkerGradients()
    workers.listen(kept)
    [(x, y)] = batches(1, 8)
    workers.backward(loss_of(model), x, y)
    with workers.next():
        loss_of(model)(x, y).backward()
    with pytest.raises(RuntimeError, match="no gradients are kept"):
        next(kept.rows())  # in the middle of a step
    with workers.next():
        loss_of(model)(x, y).backward()
        model[0].weight.grad = None
    workers.combine()
    first, *_ = kept.rows()
    assert first.shape[0] == kept.workers == 2
    assert first[0].abs().max() > 0
    assert first[1].abs().max() == 0
    with workers.next():
        loss_of(model)(x, y).backward()
    workers.forget()
    with pytest.raises(RuntimeError, match="no gradients are kept"):
        next(kept.rows())


def test_follows_parameters_that_are_frozen(network, batches, loss_of):
    model, _, workers = setup(network)
    kept = WorkerGradients()
    workers.listen(kept)
    [(x, y)] = batches(1, 8)
    workers.backward(loss_of(model), x, y)
    model[0].weight.requires_grad_(False)
    workers.backward(loss_of(model), x, y)
    assert kept.layers == ["0.bias", "3.weight", "3.bias"]
    assert [rows.shape[1:] for rows in kept.rows()] == [p.shape for p in model.parameters()][1:]


def test_training_goes_on_as_without_it(network, batches, loss_of):
    ends = []
    for listens in (False, True):
        model, optimizer, workers = setup(network, perturb=lb.GNC(alpha=0.5))
        if listens:
            workers.listen(WorkerGradients(dtype=torch.float32))
        for x, y in batches(3, 8):
            workers.backward(loss_of(model), x, y)
            optimizer.step()
        ends.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_refuses_a_dtype_that_holds_no_gradient():
    with pytest.raises(ValueError, match=r"kept in a floating dtype or their own, got torch.int8"):
        WorkerGradients(dtype=torch.int8)
