"""Workers without perturbation are a gradient-accumulation loop; what lands in ``p.grad``."""

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.contracts import GradientNoise


def accumulate(model, loss_of, x, y, weights):
    """The loop that everybody writes: each loss times its share, gradients add up."""
    pieces = zip(x.split(len(x) // len(weights)), y.split(len(y) // len(weights)), strict=True)
    model.zero_grad()
    for weight, (xi, yi) in zip(weights, pieces, strict=True):
        (loss_of(model)(xi, yi) * weight / sum(weights)).backward()


@pytest.mark.parametrize("weights", [[1.0] * 4, [1.0, 5.0, 2.0, 1.0]], ids=["equal", "tokens"])
def test_trains_as_an_accumulation_loop_does(weights, network, batches, loss_of):
    models = network(), network()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.5, momentum=0.9) for m in models]
    workers = lb.Workers(models[1], optimizers[1], count=4)
    for x, y in batches(5, 8):
        accumulate(models[0], loss_of, x, y, weights)
        for weight, (xi, yi) in zip(weights, workers.shards(x, y), strict=True):
            with workers.next(weight=weight):
                loss_of(models[1])(xi, yi).backward()
        workers.combine()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("tensor", [False, True])
def test_weights_may_be_tensors_and_need_not_add_up_to_one(tensor, network, batches, loss_of):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), count=2)
    (x, y), *_ = batches(1, 8)
    for n, part in ((6, slice(0, 6)), (2, slice(6, 8))):
        with workers.next(weight=torch.tensor(n) if tensor else n):
            loss_of(model)(x[part], y[part]).backward()
    workers.combine()
    whole = torch.autograd.grad(loss_of(model)(x, y), list(model.parameters()))
    for p, g in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-14)


def test_powers_of_two_give_the_bits_of_the_loop(network, batches, loss_of):
    model, other = network(torch.float32), network(torch.float32)
    (x, y), *_ = batches(1, 8, torch.float32)
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), count=4)
    workers.backward(loss_of(model), x, y)
    accumulate(other, loss_of, x, y, [1.0] * 4)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_sum_takes_losses_that_add_up_to_the_groups(network, batches, loss_of):
    model = network()
    (x, y), *_ = batches(1, 8)
    workers = lb.Workers(
        model, torch.optim.SGD(model.parameters(), lr=0.5), count=4, reduction="sum"
    )
    loss = workers.backward(lambda xi, yi: loss_of(model)(xi, yi) / 4, x, y)
    whole = loss_of(model)(x, y)
    torch.testing.assert_close(loss, whole.detach(), rtol=1e-12, atol=0)
    for p, g in zip(
        model.parameters(), torch.autograd.grad(whole, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-14)


def noises(workers):
    (slots,) = workers.state_dict()["slots"]
    return slots


@pytest.mark.parametrize("ran", [4, 3, 1])
def test_sum_remembers_the_same_noise_as_mean(ran, network, batches, loss_of):
    (x, y), *_ = batches(1, 8)
    found = []
    for reduction, share in (("mean", 1.0), ("sum", 0.25)):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        workers = lb.Workers(model, optimizer, lb.GNC(0.1), count=4, reduction=reduction)
        for (xi, yi), _ in zip(workers.shards(x, y), range(ran), strict=False):
            with workers.next():
                (loss_of(model)(xi, yi) * share).backward()
        workers.combine()
        found.append(noises(workers))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-14)


def test_sum_undoes_shares_that_differ(network, batches, loss_of):
    (x, y), *_ = batches(1, 8)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.GNC(0.1), count=2, reduction="sum")
    parts, own = ((0.75, slice(0, 6)), (0.25, slice(6, 8))), []
    for share, part in parts:
        with workers.next(weight=share):
            loss = loss_of(model)(x[part], y[part])
            own.append(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True))
            (loss * share).backward()
    workers.combine()
    for slot, gradients in zip(noises(workers), own, strict=True):
        expected = [g - p.grad for g, p in zip(gradients, model.parameters(), strict=True)]
        torch.testing.assert_close(slot, torch.cat([e.flatten() for e in expected]))


@pytest.mark.parametrize("ran", [1, 2, 3])
def test_short_group_is_averaged_and_the_others_noise_is_zero(ran, network, batches, loss_of):
    model = network()
    data = batches(2, 8)
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), lb.GNC(0.1), count=4)
    workers.backward(loss_of(model), *data[0])
    x, y = data[1]
    for xi, yi in list(zip(x.split(2), y.split(2), strict=True))[:ran]:
        with workers.next():
            loss_of(model)(xi, yi).backward()
    workers.combine()
    assert (noises(workers)[ran:] == 0).all()
    assert (noises(workers)[:ran] != 0).any(1).tolist() == [ran > 1] * ran
    torch.testing.assert_close(noises(workers).sum(0), torch.zeros_like(noises(workers)[0]))


def test_noise_sums_to_zero_over_workers(network, batches, loss_of):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=4)
    for x, y in batches(3, 8):
        workers.backward(loss_of(model), x, y)
        optimizer.step()
        slots = noises(workers)
        assert slots.abs().max() > 1e-3
        torch.testing.assert_close(slots.sum(0), torch.zeros_like(slots[0]), rtol=0, atol=1e-14)


def test_replaces_what_was_in_grad_and_needs_no_zero_grad(network, batches, loss_of):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.0), count=2)
    (x, y), *_ = batches(1, 4)
    workers.backward(loss_of(model), x, y)
    first = [p.grad.clone() for p in model.parameters()]
    workers.backward(loss_of(model), x, y)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), first, strict=True))


def test_clipping_acts_on_the_mean(network, batches, loss_of):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), lb.GNC(0.1), count=2)
    (x, y), *_ = batches(1, 4)
    workers.backward(loss_of(model), x, y)
    kept = noises(workers)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert norm > 1e-3
    total = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert total.item() == pytest.approx(1e-3, rel=1e-3)
    assert torch.equal(noises(workers), kept)


def test_backward_returns_the_mean_loss_unattached(network, batches, loss_of):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), count=4)
    (x, y), *_ = batches(1, 8)
    loss = workers.backward(loss_of(model), x, y)
    assert loss.shape == ()
    assert not loss.requires_grad
    torch.testing.assert_close(loss, loss_of(model)(x, y).detach(), rtol=1e-12, atol=0)


def test_a_step_that_is_forgotten_starts_anew_without_noise(network, batches, loss_of):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=2)
    (x, y), (u, v) = batches(2, 8)
    workers.backward(loss_of(model), u, v)
    with workers.next():
        loss_of(model)(u[:4], v[:4]).backward()
    workers.forget()
    workers.backward(loss_of(model), x, y)
    whole = torch.autograd.grad(loss_of(model)(x, y), list(model.parameters()))
    for p, g in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-14)
    with workers.next():
        with pytest.raises(RuntimeError, match="still running"):
            workers.forget()
        loss_of(model)(x, y).backward()


def test_worker_says_which_it_is_and_whether_the_last(network, batches, loss_of):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), count=3)
    seen = []
    (x, y), *_ = batches(1, 6)
    for xi, yi in workers.shards(x, y):
        with workers.next() as worker:
            seen.append((worker.index, worker.counts, worker.last))
            loss_of(model)(xi, yi).backward()
    workers.combine()
    with workers.next() as unknown:
        loss_of(model)(x, y).backward()
    with workers.next(last=True) as last:
        loss_of(model)(x, y).backward()
    assert seen == [(0, True, False), (1, True, False), (2, True, True)]
    assert (unknown.last, last.last) == (None, True)


class Halving(GradientNoise):
    """A gradient noise that can be foreseen: adds step + scale to every gradient."""

    def add(self, gradients, step, scale):
        for g in gradients:
            g.add_(step + scale)


def test_gradient_noise_is_added_after_the_memory_has_seen_the_mean(network, batches, loss_of):
    found = []
    for noise in (None, Halving()):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        workers = lb.Workers(model, optimizer, lb.GNC(0.1), count=2, gradient_noise=noise)
        for x, y in batches(2, 4):
            workers.backward(loss_of(model), x, y)
        found.append((noises(workers), [p.grad for p in model.parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    for plain, noisy in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(noisy, plain + 1 + 1.0)


def test_same_seed_gives_the_same_bits(network, batches, loss_of):
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        model = network(torch.float32)
        optimizer = lb.SNGM(model.parameters(), lr=0.1)
        perturb = lb.Switch(lb.GNC(3.0), lb.RNC(0.1, seed=4), 2)
        workers = lb.Workers(model, optimizer, perturb, count=4)
        for x, y in batches(4, 8, torch.float32):
            workers.backward(loss_of(model), x, y)
            optimizer.step()
        runs.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
