"""In which order passes come, and which shard each gets."""

import pytest
import torch

import largebatch as lb
from largebatch.contracts import Perturbation
from largebatch.order import Order, in_order, order_of

ORDERS = {
    (1, "worker"): [(0, True), (1, True), (2, True)],
    (1, "batch"): [(0, True), (1, True), (2, True)],
    (2, "worker"): [(0, False), (0, True), (1, False), (1, True), (2, False), (2, True)],
    (2, "batch"): [(0, False), (1, False), (2, False), (0, True), (1, True), (2, True)],
}


@pytest.mark.parametrize(("kind", "expected"), ORDERS.items())
def test_who_runs_when_and_whether_it_counts(kind, expected):
    order = Order(3, *kind)
    assert order.length == len(expected)
    assert [order.at(place) for place in range(order.length)] == expected


class Twice(Perturbation):
    """Two passes from step 2 on; keeps what it was told."""

    def __init__(self, scope="worker", elsewhere=False, start=0):
        self.which, self.other, self.start = scope, elsewhere, start
        self.told = []

    def passes(self, step):
        return 2 if step >= self.start else 1

    def scope(self, step):
        return self.which

    def elsewhere(self, step):
        return self.other

    def offsets(self, point, worker, memory):
        self.told.append((worker, None if memory is None else [m.clone() for m in memory]))
        return [None] * len(point.weights)


def test_the_order_is_what_the_perturbation_asks_for_at_the_step():
    perturb = Twice("batch", start=2)
    assert order_of(None, 0, 3) == Order(3)
    assert order_of(perturb, 1, 3).length == 3
    assert order_of(perturb, 2, 3) == Order(3, 2, "batch")


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("kind", ORDERS)
def test_each_pass_gets_its_workers_shard_or_another(kind, inner, elsewhere):
    # Red: the shard before in place of the next, an inner batch that is rotated too, passes that
    # count on it.
    order, x = Order(3, *kind), torch.arange(6)
    other = (torch.arange(10, 16),) if inner else None
    found = [tuple(p.tolist()) for (p,) in in_order(order, (x,), other, elsewhere)]
    expected = []
    for worker, counts in ORDERS[kind]:
        at = worker if counts or inner or not elsewhere else (worker + 1) % 3
        at = 2 * at + (10 if inner and not counts else 0)
        expected.append((at, at + 1))
    assert found == expected


def setup(network, perturb, count=3, **options):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    return model, optimizer, lb.Workers(model, optimizer, perturb, count=count, **options)


@pytest.mark.parametrize("scope", ["worker", "batch"])
def test_one_loop_serves_all_and_workers_say_which_they_are(scope, network, batches, loss_of):
    model, _, workers = setup(network, Twice(scope, start=1))
    seen = []
    for x, y in batches(2, 6):
        for xi, yi in workers.shards(x, y):
            with workers.next() as worker:
                seen.append((worker.index, worker.counts, worker.last))
                loss_of(model)(xi, yi).backward()
        workers.combine()
    one, two = ORDERS[1, scope], ORDERS[2, scope]
    assert seen == [
        (*each, place == len(order) - 1) for order in (one, two) for place, each in enumerate(order)
    ]


def test_shards_may_be_taken_ahead_of_their_passes(network, batches, loss_of):
    # Red: the first pass said to be the last, since the last shard had been given out.
    model, _, workers = setup(network, None)
    seen = []
    [(x, y)] = batches(1, 6)
    for xi, yi in list(workers.shards(x, y)):
        with workers.next() as worker:
            seen.append(worker.last)
            loss_of(model)(xi, yi).backward()
    assert seen == [False, False, True]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("scope", ["worker", "batch"])
def test_what_was_looked_at_is_told_by_weight(scope, reduction, network, batches, loss_of):
    # Red: equal weights, a share counted twice, the memory of a worker given to the next.
    perturb = Twice(scope)
    model, _, workers = setup(network, perturb, reduction=reduction)
    [(x, y)] = batches(1, 8)
    cuts = [slice(0, 1), slice(1, 3), slice(3, 8)]
    for worker, _ in ORDERS[2, scope]:
        part = cuts[worker]
        n = part.stop - part.start
        with workers.next(weight=n if reduction == "mean" else n / 8):
            share = 1.0 if reduction == "mean" else n / 8
            (loss_of(model)(x[part], y[part]) * share).backward()
    workers.combine()
    parameters = list(model.parameters())
    whole = torch.autograd.grad(loss_of(model)(x, y), parameters)
    own = [torch.autograd.grad(loss_of(model)(x[c], y[c]), parameters) for c in cuts]
    assert [worker for worker, _ in perturb.told] == [0, 1, 2]
    for worker, memory in perturb.told:
        expected = whole if scope == "batch" else own[worker]
        for a, b in zip(memory, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-14)
    for p, g in zip(parameters, whole, strict=True):  # the first passes are not added to it
        torch.testing.assert_close(p.grad, g, rtol=1e-11, atol=1e-14)


def run(workers, model, loss_of, batch, passes):
    for (x, y), _ in zip(workers.shards(*batch), range(passes), strict=False):
        with workers.next():
            loss_of(model)(x, y).backward()


@pytest.mark.parametrize(
    ("perturb", "passes"),
    [(lb.SAM(0.1), n) for n in (1, 3, 4, 5)] + [(lb.SAM(0.1, per_worker=True), n) for n in (1, 5)],
)
def test_combine_in_the_middle_is_an_error_that_says_what_is_missing(
    perturb, passes, network, batches, loss_of
):
    model, _, workers = setup(network, perturb)
    [batch] = batches(1, 6)
    run(workers, model, loss_of, batch, passes)
    message = rf"combine\(\) after {passes} of 6 passes: .* looks before it runs; .*shards\(\)"
    with pytest.raises(RuntimeError, match=message):
        workers.combine()
    workers.backward(loss_of(model), *batch)  # and another try is whole again
    assert workers.step == 1


@pytest.mark.parametrize("ran", [1, 2])
def test_a_short_group_of_workers_that_look_is_averaged(ran, network, batches, loss_of):
    model, _, workers = setup(network, Twice())
    [(x, y)] = batches(1, 6)
    run(workers, model, loss_of, (x, y), 2 * ran)
    workers.combine()
    part = slice(0, 2 * ran)
    expected = torch.autograd.grad(loss_of(model)(x[part], y[part]), list(model.parameters()))
    for p, g in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("scope", ["worker", "batch"])
def test_too_many_passes_are_an_error(scope, network, batches, loss_of):
    model, _, workers = setup(network, Twice(scope))
    [batch] = batches(1, 6)
    run(workers, model, loss_of, batch, 6)
    with pytest.raises(RuntimeError, match="all count=3 workers of this step have run"):
        workers.next().__enter__()


@pytest.mark.parametrize("perturb", [None, lb.RNC(0.1), lb.SAM(0.1), lb.GNC(0.1)], ids=str)
def test_another_batch_is_refused_where_nothing_looks_on_it(perturb, network, batches, loss_of):
    model, _, workers = setup(network, perturb)
    [batch] = batches(1, 6)
    with pytest.raises(ValueError, match=r"inner= is another batch .* looks on no other"):
        workers.backward(loss_of(model), *batch, inner=batch)


def test_another_batch_is_a_tuple_and_can_be_shared_out(network, batches, loss_of):
    model, _, workers = setup(network, lb.Extrapolation(0.1))
    [(x, y)] = batches(1, 6)
    with pytest.raises(TypeError, match="inner= must be a tuple like the batch, got Tensor"):
        workers.backward(loss_of(model), x, y, inner=x)
    with pytest.raises(ValueError, match="count=3 workers cannot share a batch of 4"):
        workers.backward(loss_of(model), x, y, inner=(x[:4], y[:4]))
    workers.backward(loss_of(model), x, y, inner=(x[:3], y[:3]))  # of a size of its own
    assert workers.step == 1


def test_the_loss_is_that_of_the_passes_that_count(network, batches, loss_of):
    model, _, workers = setup(network, Twice("worker", elsewhere=True))
    [(x, y)] = batches(1, 6)
    loss = workers.backward(loss_of(model), x, y, inner=(x * 5, y))
    torch.testing.assert_close(loss, loss_of(model)(x, y).detach(), rtol=1e-12, atol=0)
