"""Bugs that turn these red: √(2/pi) as 2/√pi (CURV's own), n for √n, h for 2h,
a mean left out, noise in a batch of all examples."""

from math import sqrt

import pytest
import torch

from largebatch.theory import (
    distance_to_minimum,
    loss_stride,
    mean_distance_to_minimum,
    mean_gradient_magnitude,
    mean_gradient_square,
    mean_update_magnitude,
)


@pytest.mark.parametrize("batch", [1, 16])
def test_magnitudes_of_averaged_noise(batch):
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000 // batch, batch, generator=source, dtype=torch.float64)
    g = (0.3 * noise).mean(dim=1)
    error = float(g.abs().std()) / sqrt(len(g))
    assert mean_gradient_magnitude(0.3, batch) == pytest.approx(
        float(g.abs().mean()), abs=4 * error
    )
    assert mean_update_magnitude(0.1, 0.3, batch) == pytest.approx(
        float((0.1 * g).abs().mean()), abs=0.4 * error
    )
    assert loss_stride(0.1, 0.3**2 / batch) == pytest.approx(
        float((0.1 * g.square()).mean()), rel=0.05
    )


@pytest.mark.parametrize("n", [1, 10, 60, 100])
def test_batches_drawn_from_few_examples_whose_mean_is_not_zero(n):
    source = torch.Generator().manual_seed(0)
    mean, deviation, examples = -0.4, 1.5, 100

    # Many coordinates, in each of which the examples have this very mean and deviation.
    x = torch.randn(examples, 20_000, generator=source, dtype=torch.float64)
    x = mean + deviation * (x - x.mean(0)) / x.std(0)
    g = x[:n].mean(0)

    def theory(function, **given):
        return function(deviation, n, examples=examples, **given)

    error = float(g.square().std()) / sqrt(len(g))
    square = theory(mean_gradient_square, mean_square=mean**2)
    assert square == pytest.approx(float(g.square().mean()), abs=4 * error + 1e-12)
    magnitude = theory(mean_gradient_magnitude, mean=mean)
    error = float(g.abs().std()) / sqrt(len(g))
    assert magnitude == pytest.approx(float(g.abs().mean()), abs=4 * error + 1e-12)
    assert abs(theory(mean_gradient_magnitude) - magnitude) > 4 * error  # the mean shows


def test_all_examples_have_no_noise():
    assert mean_gradient_magnitude(3.0, 7, mean=-2.0, examples=7) == 2.0
    assert mean_gradient_square(3.0, 7, mean_square=4.0, examples=7) == 4.0
    assert mean_update_magnitude(0.5, 3.0, 7, mean=2.0, examples=7) == 1.0
    assert mean_gradient_magnitude(0.0, 5) == 0.0


def test_distance_leads_to_the_minimum():
    a, b, w = 1.5, -2.0, 7.0  # L = a·(w - b)² + c
    weight = torch.tensor(w, requires_grad=True)
    (g,) = torch.autograd.grad(a * (weight - b) ** 2 + 1, weight)
    assert w - distance_to_minimum(float(g), 2 * a) == pytest.approx(b)
    assert distance_to_minimum(-1.0, 2.0) == -0.5


def test_mean_distance_is_that_of_the_gradients():
    source = torch.Generator().manual_seed(0)
    g = 0.3 / 10 * torch.randn(100_000, generator=source, dtype=torch.float64)  # n = 100
    mean = float((g / 3.0).abs().mean())
    assert mean_distance_to_minimum(0.3, 100, 3.0) == pytest.approx(mean, rel=0.01)


def test_a_larger_batch_brings_all_nearer_to_zero():
    for function in (mean_gradient_magnitude, lambda s, n: mean_distance_to_minimum(s, n, 1.0)):
        assert function(1.0, 4) == pytest.approx(function(1.0, 1) / 2)


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match="second_derivative must be finite and above 0, got"):
        distance_to_minimum(1.0, 0.0)
    with pytest.raises(ValueError, match="second_derivative must be finite and above 0, got"):
        mean_distance_to_minimum(1.0, 1, -1.0)
    with pytest.raises(ValueError, match="deviation must be finite and at least 0"):
        mean_gradient_magnitude(-1.0)
    for function in (mean_gradient_magnitude, mean_gradient_square):
        with pytest.raises(ValueError, match="got batch_size=8 and examples=7: give at least"):
            function(1.0, 8, examples=7)
    with pytest.raises(ValueError, match="mean_square must be finite and at least 0"):
        mean_gradient_square(1.0, mean_square=-1.0)
    with pytest.raises(ValueError, match="mean_square must be finite and at least 0"):
        loss_stride(0.1, -1.0)
