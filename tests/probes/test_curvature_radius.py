"""Hessians that are known: diagonal ones, where Hutchinson's has no error, and a regression's."""

import math

import pytest
import torch
from torch import nn

from largebatch.probes import curvature_radius


def parabola(model):
    """Of each row of x a parabola along every weight: h = 2*mean(x), g = h*w."""
    return lambda x: (x * model.a.square()).sum(1).mean()


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_parabola_along_every_weight(weights, chunk):
    w = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=torch.float64)
    model = weights(a=w)
    x = torch.tensor([[1.0, 2, 3, 4], [3, -4, 5, 6], [2, 3, 4, 5]], dtype=torch.float64)
    h = 2 * x.mean(0)
    radii = (1 + (h * w) ** 2) ** 1.5 / h.abs()
    found = curvature_radius(model, parabola(model), (x,), samples=1, chunk=chunk)
    assert found.layers == ["a"]
    assert found.mean_radius == [pytest.approx(float(radii.mean()))]
    assert found.spread == [pytest.approx(float(radii.std(correction=0)))]
    assert found.median == [pytest.approx(float(radii.median()))]
    assert (found.straight, found.samples) == ([0.0], 1)


def test_a_regressions_hessian_is_met_with_enough_samples():
    torch.manual_seed(2)
    x = torch.randn(50, 6, dtype=torch.float64) @ (torch.eye(6) + 0.3).double()
    y = torch.randn(50, 1, dtype=torch.float64)
    model = nn.Linear(6, 1, bias=False).double()
    loss = lambda x, y: (model(x) - y).square().mean() / 2  # noqa: E731
    h = x.square().mean(0)
    g = ((model(x) - y) * x).mean(0)
    radii = (1 + g**2) ** 1.5 / h
    # The estimate's error is sqrt(sum of squares off the diagonal / samples): 2% of h here.
    found = curvature_radius(model, loss, (x, y), samples=4000)
    assert found.mean_radius == [pytest.approx(float(radii.detach().mean()), rel=0.03)]
    few = curvature_radius(model, loss, (x, y), samples=1)
    assert few.mean_radius != [pytest.approx(float(radii.detach().mean()), rel=0.03)]


def test_the_estimate_does_not_depend_on_the_chunks(network, batches, loss_of, passes):
    model, (batch,) = network(), batches(1, 12)
    whole = curvature_radius(model, loss_of(model), batch, samples=3)
    assert passes.backward == 2 + 3  # two gradients, and a product a sample
    chunked = curvature_radius(model, loss_of(model), batch, samples=3, chunk=5)
    assert passes.backward == 5 + 3 * 5
    torch.testing.assert_close(chunked.median, whole.median)
    by_differences = curvature_radius(model, loss_of(model), batch, samples=3, method="differences")
    assert passes.backward == 20 + 1 + 2 * 3
    torch.testing.assert_close(by_differences.median, whole.median, rtol=1e-5, atol=0)
    assert curvature_radius(model, loss_of(model), batch, samples=3, seed=1) != whole


def test_layers_of_their_own(weights):
    model = weights(a=torch.zeros(3), b=torch.zeros(2))
    look = lambda x: x.mean() * (model.a.square().sum() + 5 * model.b.square().sum())  # noqa: E731
    found = curvature_radius(model, look, (torch.ones(4, dtype=torch.float64),))
    assert found.mean_radius == [pytest.approx(0.5), pytest.approx(0.1)]
    assert found.layers == ["a", "b"]


def test_straight_weights_are_left_out_and_told_of_or_damped(weights):
    model = weights(a=torch.tensor([1.0, 1.0, 0.0, 3.0]), b=torch.ones(2))
    x = torch.tensor([[1.0, 0.0, 2.0, 0.0]], dtype=torch.float64)
    found = curvature_radius(model, parabola(model), (x,))
    assert found.straight == [0.5, 1.0]
    expected = [(1 + 4) ** 1.5 / 2, 1 / 4]
    assert found.mean_radius[0] == pytest.approx(sum(expected) / 2)
    assert all(math.isnan(each[1]) for each in (found.mean_radius, found.spread, found.median))
    damped = curvature_radius(model, parabola(model), (x,), damping=2.0)
    assert damped.straight == [0.0, 0.0]
    expected = [(1 + 4) ** 1.5 / 4, 1 / 2, 1 / 6, 1 / 2]
    assert damped.mean_radius == [pytest.approx(sum(expected) / 4), pytest.approx(0.5)]


def test_nan_stays_nan(weights):
    model = weights(a=torch.tensor([1.0, 1.0]))
    found = curvature_radius(model, parabola(model), (torch.tensor([[math.nan, 1.0]]),))
    assert all(math.isnan(each[0]) for each in (found.mean_radius, found.spread, found.median))
    assert found.straight == [0.0]


def test_refuses(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    with pytest.raises(ValueError, match="a damping of 0 or more, got damping=-1"):
        curvature_radius(model, loss_of(model), batch, damping=-1)
    with pytest.raises(ValueError, match="whole number of samples from 1, got 0"):
        curvature_radius(model, loss_of(model), batch, samples=0)
