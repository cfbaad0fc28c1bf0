"""One pass: clean outside, and no trace of one that fails."""

import pytest
import torch

import largebatch as lb
from largebatch.contracts import GradientNoise, Perturbation


def bits(model):
    return [t.detach().clone() for t in [*model.parameters(), *model.buffers()]]


def same(model, kept):
    now = [*model.parameters(), *model.buffers()]
    return all(torch.equal(a, b) for a, b in zip(now, kept, strict=True))


def make(network, perturb, count=3, lr=0.5):
    model = network(torch.float32, norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return model, optimizer, lb.Workers(model, optimizer, perturb, count=count)


@pytest.mark.parametrize("perturb", [lb.GNC(3.0, "plain"), lb.RNC(0.3, "plain"), lb.GNC(3.0)])
def test_weights_are_clean_to_the_bit_outside(perturb, network, batches, loss_of):
    model, optimizer, workers = make(network, perturb)
    for x, y in batches(3, 6, torch.float32):
        kept = bits(model)
        for xi, yi in workers.shards(x, y):
            assert same(model, kept)
            with workers.next():
                loss_of(model)(xi, yi).backward()
            assert same(model, kept)
        assert workers.offset_to_weight_norm is not None
        workers.combine()
        weights = len(list(model.parameters()))
        assert same(model, kept[:weights] + list(model.buffers()))
        optimizer.step()
    assert workers.offset_to_weight_norm > 1e-3


class Failing(Perturbation):
    """Fails the first time that worker 1 asks for its offset at step 1."""

    def __init__(self, inner):
        self.inner, self.failed = inner, False

    def remembers(self, step):
        return self.inner.remembers(step)

    def offsets(self, point, worker, memory):
        if (point.step, worker) == (1, 1) and not self.failed:
            self.failed = True
            raise ZeroDivisionError("in the perturbation")
        return self.inner.offsets(point, worker, memory)


def train(network, batches, loss_of, perturb, fail=None):
    """Three steps of three workers; ``fail`` = (step, worker, exception, where) fails once."""
    model, optimizer, workers = make(network, perturb)
    pending = fail
    for step, (x, y) in enumerate(batches(3, 6, torch.float32)):
        pieces = list(zip(x.split(2), y.split(2), strict=True))
        while pieces:
            kept, (xi, yi) = bits(model), pieces[0]
            try:
                with workers.next() as worker:
                    failing = pending is not None and pending[:2] == (step, worker.index)
                    if failing and pending[3] == "before":
                        pending, error = None, pending[2]
                        raise error
                    loss_of(model)(xi, yi).backward()
                    if failing:
                        pending, error = None, pending[2]
                        raise error
                pieces.pop(0)
            except (RuntimeError, KeyboardInterrupt, ZeroDivisionError):
                assert same(model, kept)
                assert all(p.grad is None for p in model.parameters())
        workers.combine()
        optimizer.step()
    assert pending is None
    return bits(model) + workers.state_dict()["slots"]


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [(0, 0), (1, 0), (1, 1), (2, 2)])
def test_a_failed_pass_can_be_retried(at, error, where, network, batches, loss_of):
    expected = train(network, batches, loss_of, lb.GNC(1.0))
    found = train(network, batches, loss_of, lb.GNC(1.0), (*at, error, where))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_perturbation_that_fails_leaves_no_trace(network, batches, loss_of):
    expected = train(network, batches, loss_of, lb.GNC(1.0))
    failing = Failing(lb.GNC(1.0))
    found = train(network, batches, loss_of, failing)
    assert failing.failed
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_pass_without_a_gradient_is_an_error_and_leaves_no_trace(network, batches, loss_of):
    model, _, workers = make(network, lb.RNC(0.5))
    x, y = batches(1, 6, torch.float32)[0]
    kept = bits(model)
    with pytest.raises(RuntimeError, match=r"call loss.backward\(\) inside"), workers.next():
        loss_of(model)(x, y)
    assert same(model, kept)
    with workers.next() as worker:
        loss_of(model)(x, y).backward()
    assert worker.index == 0


def test_a_sparse_gradient_is_an_error_and_leaves_no_trace():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 2, sparse=True), torch.nn.BatchNorm1d(2))
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), count=2)
    kept = bits(model)
    with pytest.raises(TypeError, match=r"dense gradients, .* sparse=False"), workers.next():
        model(torch.tensor([1, 2, 1])).sum().backward()
    assert same(model, kept)
    assert model[0].weight.grad is None


class Wrong(Perturbation):
    def __init__(self, shapes):
        self.shapes = shapes

    def offsets(self, point, worker, memory):
        return [None if shape is None else torch.zeros(shape) for shape in self.shapes]


@pytest.mark.parametrize("shapes", [[None], [(1,), None], [None, None, None]])
def test_offsets_of_another_shape_or_number_are_an_error(shapes):
    model = torch.nn.Linear(3, 2)
    workers = lb.Workers(model, torch.optim.SGD(model.parameters()), Wrong(shapes))
    message = r"Wrong.offsets must return, for each of 2 weights, None or a tensor of its shape"
    with pytest.raises(ValueError, match=message), workers.next():
        model(torch.ones(1, 3)).sum().backward()


def test_shards_forget_an_unfinished_step(network, batches, loss_of):
    model, optimizer, workers = make(network, lb.GNC(1.0))
    data = batches(2, 6, torch.float32)
    workers.backward(loss_of(model), *data[0])
    optimizer.step()
    kept = bits(model)
    with pytest.raises(ZeroDivisionError):
        _fail_second(workers, loss_of(model), data[1])
    assert same(model, kept)
    workers.backward(loss_of(model), *data[1])
    # What worker 0 had left in its slot is not taken for noise.
    assert workers.offset_to_weight_norm == 0


def _fail_second(workers, fn, batch):
    calls = []

    def failing(x, y):
        calls.append(x)
        return fn(x, y) if len(calls) == 1 else 1 / 0

    workers.backward(failing, *batch)


class FailingNoise(GradientNoise):
    """Fails once, after it has changed the gradients."""

    def __init__(self):
        self.failed = False

    def add(self, gradients, step, scale):
        if step == 1 and not self.failed:
            self.failed = True
            gradients[0].fill_(7.0)
            raise ZeroDivisionError("in the gradient noise")


def test_a_combine_that_fails_forgets_the_step(network, batches, loss_of):
    model, _, _ = make(network, None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    noise = FailingNoise()
    workers = lb.Workers(model, optimizer, lb.GNC(1.0), count=3, gradient_noise=noise)
    first, second = batches(2, 6, torch.float32)
    workers.backward(loss_of(model), *first)
    optimizer.step()
    kept = bits(model)
    with pytest.raises(ZeroDivisionError):
        workers.backward(loss_of(model), *second)
    assert same(model, kept)
    assert workers.step == 1
    assert all(p.grad is None for p in model.parameters())
    assert all((slots == 0).all() for slots in workers.state_dict()["slots"])
    with pytest.raises(RuntimeError, match="before any worker has run"):
        workers.combine()
    workers.backward(loss_of(model), *second)
    found = [p.grad for p in model.parameters()]
    plain = lb.Workers(model, optimizer, count=3)
    plain.backward(loss_of(model), *second)
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize(
    "perturb", [lb.SAM(0.2), lb.SAM(0.2, per_worker=True), lb.Extrapolation(0.5)], ids=str
)
def test_a_failed_pass_of_either_kind_can_be_retried(
    perturb, at, error, where, network, batches, loss_of
):
    # Red: a look that failed is counted, or its running statistics and gradient stay.
    found = []
    for failing in (None, at):
        model, optimizer, workers = make(network, perturb, count=2)
        for x, y in batches(2, 4, torch.float32):
            passes = list(enumerate(workers.shards(x, y)))
            while passes:
                place, (xi, yi) = passes[0]
                kept = bits(model)
                try:
                    with workers.next():
                        if where == "before" and failing == place:
                            failing = None
                            raise error
                        loss_of(model)(xi, yi).backward()
                        if failing == place:
                            failing = None
                            raise error
                    passes.pop(0)
                except (RuntimeError, KeyboardInterrupt):
                    assert same(model, kept)
                    assert all(p.grad is None for p in model.parameters())
            workers.combine()
            optimizer.step()
        assert failing is None
        found.append(bits(model))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_look_without_a_gradient_is_an_error_and_leaves_no_trace(network, batches, loss_of):
    model, _, workers = make(network, lb.SAM(0.5))
    [(x, y)] = batches(1, 6, torch.float32)
    kept = bits(model)
    with pytest.raises(RuntimeError, match=r"call loss.backward\(\) inside"), workers.next():
        loss_of(model)(x, y)
    assert same(model, kept)
    with workers.next() as worker:
        loss_of(model)(x, y).backward()
    assert (worker.index, worker.counts) == (0, False)


def test_a_look_that_is_not_finite_shows_in_the_gradient_and_nowhere_else(
    network, batches, loss_of
):
    # Red: NaN weights in the second pass, whose running statistics are NaN for ever after; or a
    # step on a gradient that says nothing of it.
    model, _, workers = make(network, lb.SAM(0.5, per_worker=True))
    for place, (x, y) in enumerate(workers.shards(*batches(1, 6, torch.float32)[0])):
        with workers.next() as worker:
            assert all(p.isfinite().all() for p in model.parameters())
            (loss_of(model)(x, y) * (float("nan") if place == 2 else 1.0)).backward()
        assert worker.index == place // 2
    workers.combine()
    assert all(p.grad.isnan().all() for p in model.parameters())
    assert all(b.isfinite().all() for b in model.buffers())
    workers.backward(loss_of(model), *batches(1, 6, torch.float32)[0])
    assert all(p.grad.isfinite().all() for p in model.parameters())
