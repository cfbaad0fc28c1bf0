"""Lines along which losses and gradients are known."""

import math
from contextlib import contextmanager
from functools import partial

import pytest
import torch

import largebatch as lb
from largebatch.probes import smoothness

MULTIPLES = torch.linspace(0.5, 2, 8, dtype=torch.float64)


@contextmanager
def offset(parameter, value):
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(value(parameter) if callable(value) else value)
    try:
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(before)


@pytest.fixture
def bowl(weights):
    """A parabola over two parameters, 0.5*w.A.w - mean(x).w, its A, and its start."""
    source = torch.Generator().manual_seed(3)
    root = torch.randn(4, 4, generator=source, dtype=torch.float64)
    start = torch.randn(4, generator=source, dtype=torch.float64)
    model = weights(a=start[:3], b=start[3:])
    matrix = root @ root.T

    def loss(x):
        w = torch.cat([model.a, model.b])
        return w @ matrix @ w / 2 - (x @ w).mean()

    x = torch.randn(6, 4, generator=source, dtype=torch.float64)
    return model, loss, x, matrix, start


def test_a_parabolas_line(bowl, passes):
    model, loss, x, a, w = bowl
    found = smoothness(model, loss, (x,), lr=0.03)
    assert passes.backward == 9
    g = a @ w - x.mean(0)
    norm, bend = float(g.norm()), float((a @ g).norm())
    rates = 0.03 * MULTIPLES
    points = [w - r * g for r in rates]
    losses = torch.stack([p @ a @ p / 2 - x.mean(0) @ p for p in points])
    torch.testing.assert_close(found.rates, rates.tolist())
    torch.testing.assert_close(found.losses, losses.tolist())
    torch.testing.assert_close(found.gradient_distances, (rates * bend).tolist())
    torch.testing.assert_close(found.ratios, [bend / norm] * 8)
    assert found.loss_range == pytest.approx(float(losses.max() - losses.min()))
    assert found.gradient_range == pytest.approx(0.03 * 1.5 * bend)
    assert found.largest_ratio == pytest.approx(bend / norm)
    assert found.loss == pytest.approx(float(w @ a @ w / 2 - x.mean(0) @ w))
    assert found.gradient_norm == pytest.approx(norm)
    assert found.convolved is None


def test_the_largest_ratio_of_a_line_that_bends_differently(weights):
    model = weights(a=torch.tensor([1.0]))
    found = smoothness(model, lambda x: model.a.pow(4).sum() * x.mean(), (torch.ones(2),), lr=0.1)
    at = 1 - 4 * 0.1 * MULTIPLES  # g = 4
    ratios = (4 - 4 * at**3).abs() / (1 - at).abs()
    torch.testing.assert_close(found.ratios, ratios.tolist())
    assert found.largest_ratio == pytest.approx(float(ratios.max()))
    assert found.gradient_range == pytest.approx(
        float((4 - 4 * at**3).max() - (4 - 4 * at**3).min())
    )


def test_convolving_a_cosine_damps_it(weights, passes):
    model = weights(a=torch.tensor([0.3, -0.2]))
    places = [partial(offset, model.a, each) for each in (1.0, -1.0)]
    x = torch.ones(4, dtype=torch.float64)
    found = smoothness(model, lambda x: x.mean() * model.a.cos().sum(), (x,), 0.2, places)
    assert passes.backward == 9 + 9 * 2  # of half the batch each
    # cos(w + 1) + cos(w - 1) = 2*cos(1)*cos(w): the same line as with cos(1) times the rate.
    half = smoothness(model, lambda x: x.mean() * model.a.cos().sum(), (x,), 0.2 * math.cos(1.0))
    assert found.convolved.losses == pytest.approx([math.cos(1.0) * f for f in half.losses])
    assert found.convolved.largest_ratio == pytest.approx(math.cos(1.0) * half.largest_ratio)
    assert found.convolved.loss_range == pytest.approx(math.cos(1.0) * half.loss_range)
    assert found.convolved.largest_ratio < 0.6 * found.largest_ratio


def test_each_worker_has_its_share_of_the_batch_as_in_training(bowl):
    model, loss, x, a, w = bowl
    shifts = [torch.tensor([1.0, 0.0, 2.0]), torch.tensor([-1.0, 1.0, 0.0]), torch.zeros(3)]
    places = [partial(offset, model.a, each) for each in shifts]
    found = smoothness(model, loss, (x,), 0.03, places, chunk=1).convolved
    offsets = [torch.cat([each.double(), torch.zeros(1)]) for each in shifts]
    means = x.reshape(3, 2, 4).mean(1)

    def convolved(at):
        each = [(at + o) @ a @ (at + o) / 2 - m @ (at + o) for o, m in zip(offsets, means)]  # noqa: B905
        return sum(each) / 3

    g = a @ (w + torch.stack(offsets).mean(0)) - x.mean(0)
    expected = [float(convolved(w - 0.03 * m * g)) for m in MULTIPLES]
    assert found.losses == pytest.approx(expected)
    assert found.gradient_norm == pytest.approx(float(g.norm()))
    assert found.loss == pytest.approx(float(convolved(w)))


def test_offsets_stay_those_of_the_start_along_the_line(weights):
    # A filter-wise offset grows with the weight; here by half of it, so 2 -> 3.
    model = weights(a=torch.tensor([2.0]))
    places = [partial(offset, model.a, lambda w: w / 2)]
    found = smoothness(model, lambda x: 3 * model.a.sum() * x.mean(), (torch.ones(2),), 0.1, places)
    torch.testing.assert_close(found.convolved.losses, (3 * (3 - 0.1 * MULTIPLES * 3)).tolist())


def test_with_workers_it_is_the_gradient_that_they_combine(network, batches, loss_of):
    model, two = network(), batches(2, 12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.GNC(1.0), count=3)
    workers.backward(loss_of(model), *two[0])
    optimizer.step()
    places = [partial(workers.at, i) for i in range(3)]
    found = smoothness(model, loss_of(model), two[1], 0.5, places)
    loss = workers.backward(loss_of(model), *two[1])
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert found.convolved.gradient_norm == pytest.approx(float(norm), rel=1e-12)
    assert found.convolved.loss == pytest.approx(float(loss), rel=1e-12)
    assert found.gradient_norm != pytest.approx(float(norm), rel=1e-3)


def test_every_step_sees_the_same_random_numbers(weights):
    model = weights(a=torch.tensor([2.0]))
    look = lambda x: (model.a * torch.nn.functional.dropout(x, 0.5)).mean()  # noqa: E731
    found = smoothness(model, look, (torch.ones(10, dtype=torch.float64),), 0.1)
    assert found.gradient_distances == [0.0] * 8


def test_one_nan_makes_its_ranges_nan(weights):
    model = weights(a=torch.tensor([1.0]))
    look = lambda x: x.mean() * model.a.sum().pow(1.5)  # noqa: E731
    found = smoothness(model, look, (torch.ones(2),), lr=0.5)  # the last steps are below 0
    assert not math.isnan(found.losses[0])
    assert math.isnan(found.losses[-1])
    assert all(map(math.isnan, (found.loss_range, found.gradient_range, found.largest_ratio)))


def test_a_rate_of_zero_has_no_ratio(bowl):
    model, loss, x, _, _ = bowl
    found = smoothness(model, loss, (x,), lr=0.0)
    assert (found.loss_range, found.gradient_range) == (0.0, 0.0)
    assert math.isnan(found.largest_ratio)


@pytest.mark.parametrize(
    ("lr", "places", "message"),
    [
        (-0.1, 1, "a learning rate of 0 or more, got lr=-0.1"),
        (math.nan, 1, "a learning rate of 0 or more, got lr=nan"),
        (0.1, 0, "at least one worker's place, got none"),
        (0.1, 4, "4 workers' places cannot share a batch of 6: give one that they divide"),
    ],
)
def test_refuses(bowl, lr, places, message):
    model, loss, x, _, _ = bowl
    with pytest.raises(ValueError, match=message):
        smoothness(model, loss, (x,), lr, [partial(offset, model.a, 0.0)] * places)
