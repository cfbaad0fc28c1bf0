"""Parabolas whose minima are known, and the noise of a batch around one."""

import math

import pytest
import torch

from largebatch.probes import distance_to_minimum, gradient_size
from largebatch.theory import mean_distance_to_minimum


def test_the_distance_to_a_known_minimum(weights):
    w, b = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([3.0, 1.5, -2.0])
    model = weights(a=w, b=torch.tensor([7.0]))
    look = lambda x: (x * (model.a - b).square()).sum(1).mean() + model.b.square().sum()  # noqa: E731
    x = torch.tensor([[1.0, 2.0, 3.0], [0.5, 9.0, 4.0]], dtype=torch.float64)
    for chunk in (None, 1):
        found = distance_to_minimum(model, look, (x,), chunk=chunk)
        assert found.layers == ["a", "b"]
        assert found.mean_distance == [pytest.approx(3.5 / 3), pytest.approx(7.0)]
        assert found.median == [pytest.approx(0.5), pytest.approx(7.0)]
        assert (found.straight, found.concave) == ([0.0, 0.0], [0.0, 0.0])
        assert (found.weights, found.products) == ([3, 1], 3)


def test_at_the_datas_minimum_a_batch_is_as_far_from_its_own_as_the_theory_says(weights):
    # Each example has its minimum at its own row; the loss of the data at their mean, here 0.
    x = torch.randn(4096, 300, dtype=torch.float64) * 2
    x -= x.mean(0)
    model = weights(a=torch.zeros(300))
    look = lambda x: 2.5 * (model.a - x).square().sum(1).mean()  # noqa: E731  h = 5
    deviation = gradient_size(model, look, (x,), [16], repeats=40).deviation[0]
    assert deviation == pytest.approx(10.0, rel=0.02)
    for n in (16, 64):
        batches = [x[i * n : (i + 1) * n] for i in range(16)]
        found = [distance_to_minimum(model, look, (each,)) for each in batches]
        mean = sum(each.mean_distance[0] for each in found) / 16
        assert mean == pytest.approx(mean_distance_to_minimum(deviation, n, 5.0), rel=0.05)


def test_maxima_and_straight_weights_are_told_of(weights):
    model = weights(a=torch.tensor([1.0, 1.0, 1.0, 2.0]), b=torch.ones(1))
    x = torch.tensor([[1.0, -1.0, 0.0, 3.0]], dtype=torch.float64)
    found = distance_to_minimum(model, lambda x: (x * model.a.square()).sum(), (x,))
    assert found.straight == [0.25, 1.0]
    assert found.concave[0] == pytest.approx(1 / 3)
    assert found.mean_distance[0] == pytest.approx(4 / 3)
    assert math.isnan(found.mean_distance[1])
    assert math.isnan(found.concave[1])


def test_its_passes(network, batches, loss_of, passes):
    model, (batch,) = network(), batches(1, 12)
    distance_to_minimum(model, loss_of(model), batch, weights=4, chunk=6)
    assert passes.backward == 2 * (2 + 4)
    distance_to_minimum(model, loss_of(model), batch, weights=None, samples=3)
    assert passes.backward == 2 * (2 + 4) + 2 + 3


def test_nan_stays_nan(weights):
    model = weights(a=torch.tensor([1.0, 1.0]))
    x = torch.tensor([[math.nan, 1.0]])
    found = distance_to_minimum(model, lambda x: (x * model.a.square()).sum(), (x,))
    assert math.isnan(found.mean_distance[0])


def test_refuses(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    with pytest.raises(ValueError, match="whole number of samples from 1, got 0"):
        distance_to_minimum(model, loss_of(model), batch, weights=None, samples=0)
