"""Bugs that turn these red: an estimator with the bias of its small batch, N/B for N/B - 1."""

from itertools import combinations
from statistics import fmean

import pytest
import torch

from largebatch.theory import (
    GradientMoments,
    batch_at_noise_scale,
    gradient_moments,
    lr_at_noise_scale,
    noise_scale,
    simple_noise_scale,
)


def test_noise_scale_goes_as_the_variance_of_a_batch_drawn_without_replacement():
    # Every batch of a small set, listed: no formula for the variance is used.
    data = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]

    def variance(size):
        return fmean((fmean(batch) - fmean(data)) ** 2 for batch in combinations(data, size))

    for size in (2, 3, 4, 5):
        expected = variance(size) / variance(1)
        assert noise_scale(0.3, 6, size) / noise_scale(0.3, 6, 1) == pytest.approx(expected)
    assert noise_scale(0.3, 6, 6) == 0 == pytest.approx(variance(6))
    assert noise_scale(0.3, 6, 2) == pytest.approx(0.6)


def test_the_rate_and_the_batch_are_found_again():
    for lr, size in ((0.1, 64), (0.01, 50_000), (3.0, 1)):
        scale = noise_scale(lr, 60_000, size)
        assert lr_at_noise_scale(scale, 60_000, size) == pytest.approx(lr)
        assert batch_at_noise_scale(scale, 60_000, lr) == pytest.approx(size)
    assert batch_at_noise_scale(0.0, 60_000, 0.1) == 60_000


def test_a_batch_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"batch_size must be in \[0, 100\], got batch_size=101"):
        noise_scale(0.1, 100, 101)
    with pytest.raises(ValueError, match="a batch of all 100 examples has no noise at any rate"):
        lr_at_noise_scale(1.0, 100, 100)
    with pytest.raises(ValueError, match="batch_size must be finite and above 0"):
        noise_scale(0.1, 100, 0)
    with pytest.raises(ValueError, match="lr must be finite and above 0"):
        batch_at_noise_scale(1.0, 100, 0.0)


def test_moments_are_unbiased_where_the_plain_ones_are_not():
    source = torch.Generator().manual_seed(0)
    dimension, workers, small, repeats = 10, 4, 2, 20_000
    mean = torch.linspace(0, 1, dimension, dtype=torch.float64)
    deviation = torch.logspace(-1, 0.5, dimension, dtype=torch.float64)
    noise = torch.randn(repeats, workers, small, dimension, generator=source, dtype=torch.float64)
    each = (mean + deviation * noise).mean(dim=2)  # a worker's gradient, over its two examples
    small_squares = each.square().sum(dim=2).mean(dim=1)
    large_squares = each.mean(dim=1).square().sum(dim=1)

    found = [
        gradient_moments(small, float(s), workers * small, float(b))
        for s, b in zip(small_squares, large_squares, strict=True)
    ]
    truth = GradientMoments(float(mean.square().sum()), float(deviation.square().sum()))
    for name in ("squared_norm", "trace"):
        values = torch.tensor([getattr(m, name) for m in found])
        error = float(values.std()) / repeats**0.5
        assert abs(float(values.mean()) - getattr(truth, name)) < 4 * error
    # The plain estimate, ‖g‖² of the large batch, is off by tr(Sigma)/B: so many samples see it.
    plain = float(large_squares.mean()) - truth.squared_norm
    assert plain > 20 * float(large_squares.std()) / repeats**0.5
    assert plain == pytest.approx(truth.trace / (workers * small), rel=0.05)
    assert truth.expected_square(8) == pytest.approx(float(large_squares.mean()), rel=0.02)


def test_noise_scale_of_a_gradient():
    moments = gradient_moments(2, 5.0, 8, 2.0)
    assert moments.squared_norm == pytest.approx(1.0)  # (8·2 - 2·5)/6
    assert moments.trace == pytest.approx(8.0)  # 3/(1/2 - 1/8)
    assert moments.noise_scale == pytest.approx(8.0)
    assert simple_noise_scale(8.0, 1.0) == 8.0


def test_estimates_that_did_not_settle_are_refused():
    with pytest.raises(ValueError, match=r"needs ‖G‖² above 0, got -1\.0: average the estimates"):
        GradientMoments(-1.0, 3.0).noise_scale  # noqa: B018 - a property that raises
    with pytest.raises(ValueError, match=r"needs tr\(Sigma\) above 0, got 0\.0"):
        simple_noise_scale(0.0, 1.0)
    with pytest.raises(ValueError, match="large_batch must be finite and above 8, got large_batch"):
        gradient_moments(8, 1.0, 8, 1.0)
    with pytest.raises(ValueError, match="small_square must be finite and at least 0"):
        gradient_moments(2, -1.0, 8, 1.0)
