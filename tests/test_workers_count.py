"""Another number of workers from one step to the next."""

import copy
import logging

import pytest
import torch

import largebatch as lb


def make(network, perturb=None, count=2, optimizer=None, **options):
    model = network()
    optimizer = (optimizer or torch.optim.SGD)(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, lb.Workers(model, optimizer, perturb, count=count, **options)


def steps(parts, loss_of, batches):
    model, optimizer, workers = parts
    for x, y in batches:
        workers.backward(loss_of(model), x, y)
        optimizer.step()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


METHODS = [
    (lb.GNC(2.0), torch.optim.SGD),
    (lb.MatchedNoise(2.0, "isotropic"), torch.optim.SGD),
    (lb.Extrapolation(0.5, "past"), torch.optim.SGD),
    (lb.RNC(0.2), torch.optim.SGD),
    (lb.SAM(0.2), torch.optim.SGD),
    (lb.SAM(0.2, per_worker=True), torch.optim.SGD),
    (None, lb.CLARS),  # a listener
    (lb.GNC(2.0), lb.CLARS),
]


@pytest.mark.parametrize(("perturb", "optimizer"), METHODS, ids=str)
@pytest.mark.parametrize("counts", [(2, 4), (4, 2), (3, 2)])
def test_goes_on_as_new_workers_would(perturb, optimizer, counts, network, batches, loss_of):
    # Red: the memory of the old count is kept, or the passes' order is.
    data = batches(5, 12)
    parts = make(network, perturb, counts[0], optimizer)
    steps(parts, loss_of, data[:2])
    model, old = copy.deepcopy(parts[:2])
    new = optimizer(model.parameters(), lr=0.1, momentum=0.9)
    new.load_state_dict(old.state_dict())
    fresh = lb.Workers(model, new, perturb, count=counts[1])
    fresh.load_state_dict({**parts[2].state_dict(), "slots": [], "shapes": []})
    parts[2].count = counts[1]
    assert parts[2].count == counts[1]
    steps(parts, loss_of, data[2:])
    steps((model, new, fresh), loss_of, data[2:])
    assert same(parts[0], model)
    assert parts[2].step == 5


def test_a_step_at_another_count_is_over_all_its_workers(network, batches, loss_of):
    model, _, workers = make(network, count=2)
    ((x, y),) = batches(1, 12)
    for count in (2, 6, 1, 3):
        workers.count = count
        assert len(list(workers.shards(x, y))) == count
        workers.backward(loss_of(model), x, y)
        found = [p.grad for p in model.parameters()]
        expected = torch.autograd.grad(loss_of(model)(x, y), list(model.parameters()))
        for g, e in zip(found, expected, strict=True):
            torch.testing.assert_close(g, e)


def test_reduction_sum_takes_the_new_share(network, batches, loss_of):
    # Red: 1/count is taken when Workers is made, and what is remembered is off by that.
    model, _, workers = make(network, lb.Extrapolation(0.5, "past"), 2, reduction="sum")
    workers.count = 4
    ((x, y),) = batches(1, 8)
    workers.backward(lambda a, b: loss_of(model)(a, b) / 4, x, y)
    (slots,) = workers.state_dict()["slots"]
    loss = loss_of(model)(x[:2], y[:2])
    own = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(slots[0], own)


def test_what_is_remembered_starts_from_zero_and_says_so(network, batches, loss_of, caplog):
    parts = make(network, lb.GNC(2.0), 2)
    workers, data = parts[2], batches(4, 8)
    steps(parts, loss_of, data[:2])
    assert workers.offset_to_weight_norm > 0
    with caplog.at_level(logging.INFO, logger="largebatch"):
        workers.count = 4
        assert caplog.messages == ["from 2 to 4 workers: their noise starts from zero"]
    # Nothing is allocated before the next step, and the old is let go.
    assert workers.state_dict()["slots"] == []
    assert workers.bytes_needed == 4 * 8 * sum(p.numel() for p in parts[0].parameters())
    steps(parts, loss_of, data[2:3])
    assert workers.offset_to_weight_norm == 0
    assert workers.state_dict()["slots"][0].shape[0] == 4
    steps(parts, loss_of, data[3:])
    assert workers.offset_to_weight_norm > 0


def test_says_nothing_where_nothing_is_remembered(network, batches, loss_of, caplog):
    parts = make(network, lb.RNC(0.1), 2)
    steps(parts, loss_of, batches(1, 8))
    with caplog.at_level(logging.INFO, logger="largebatch"):
        parts[2].count = 4
    assert caplog.messages == []


def test_the_same_count_keeps_what_is_remembered(network, batches, loss_of, caplog):
    parts = make(network, lb.GNC(2.0), 2)
    steps(parts, loss_of, batches(1, 8))
    (kept,) = parts[2].state_dict()["slots"]
    with caplog.at_level(logging.INFO, logger="largebatch"):
        parts[2].count = 2
    assert caplog.messages == []
    assert torch.equal(parts[2].state_dict()["slots"][0], kept)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, "count of at least 1, got count=0"),
        (2.0, "whole count of at least 1, got count=2.0"),
        (True, "got count=True"),
        (1, r"GNC\(.*\) needs at least 2 workers in all, got count=1"),
    ],
)
def test_is_checked_as_in_the_constructor(count, message, network):
    workers = make(network, lb.GNC(2.0), 3)[2]
    with pytest.raises(ValueError, match=message):
        workers.count = count
    assert workers.count == 3


@pytest.mark.parametrize("perturb", [None, lb.SAM(0.1, per_worker=True)], ids=str)
def test_is_refused_in_the_middle_of_a_step(perturb, network, batches, loss_of):
    model, _, workers = make(network, perturb, 2)
    ((x, y),) = batches(1, 8)
    message = r"count cannot change in the middle of a step: call combine\(\) first"
    for xi, yi in workers.shards(x, y):
        with workers.next():
            with pytest.raises(RuntimeError, match=message):
                workers.count = 4
            loss_of(model)(xi, yi).backward()
        with pytest.raises(RuntimeError, match=message):
            workers.count = 4
    workers.combine()
    workers.count = 4
    workers.backward(loss_of(model), x, y)


def test_is_refused_while_a_batch_is_shared_out(network, batches):
    workers = make(network, None, 2)[2]
    shards = workers.shards(*batches(1, 8)[0])
    next(shards)
    workers.count = 4
    with pytest.raises(RuntimeError, match="among 2 workers, and count=4 now: set the count befor"):
        next(shards)


@pytest.mark.parametrize("perturb", [None, lb.GNC(2.0), lb.SAM(0.1)], ids=str)
def test_a_batch_that_did_not_fit_is_tried_with_more_workers(perturb, network, batches, loss_of):
    model, _, workers = make(network, perturb, 2)
    other, _, plain = make(network, perturb, 4)
    ((x, y),) = batches(1, 8)
    ran = []

    def loss(a, b):
        ran.append(len(a))
        if len(a) > 2 and len(ran) > 1:
            raise torch.OutOfMemoryError("no room")
        return loss_of(model)(a, b)

    with pytest.raises(torch.OutOfMemoryError):
        workers.backward(loss, x, y)
    assert workers.state_dict()["step"] == 0
    workers.count = 4
    workers.backward(loss, x, y)
    plain.backward(loss_of(other), x, y)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_a_backward_inside_a_worker_leaves_its_step(network, batches, loss_of):
    # Red: forgets the step that it is refused in.
    model, _, workers = make(network, None, 2)
    ((x, y),) = batches(1, 8)
    for xi, yi in workers.shards(x, y):
        with workers.next():
            with pytest.raises(RuntimeError, match="a worker is still running"):
                workers.backward(loss_of(model), x, y)
            loss_of(model)(xi, yi).backward()
    workers.combine()
    whole = torch.autograd.grad(loss_of(model)(x, y), list(model.parameters()))
    for p, g in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(p.grad, g)
