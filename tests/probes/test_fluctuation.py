"""Noise of a known variance on a known course."""

import math

import pytest
import torch

from largebatch.probes import fluctuation


@pytest.mark.parametrize("window", [3, 5, 11])
def test_white_noise_on_a_steep_line_is_measured_without_bias(window):
    line = torch.linspace(50, 0, 20_000, dtype=torch.float64)
    noisy = line + 0.3 * torch.randn(20_000, dtype=torch.float64)
    found = fluctuation(noisy.tolist(), window=window)
    # A relative error of the square of some 1.3%; without the factor it is 33, 20 or 9%.
    assert found.fluctuation**2 == pytest.approx(0.09, rel=0.05)
    assert found.window == window


def test_a_line_has_none_and_a_bend_has_its_own():
    assert fluctuation([3.0 - 2 * t for t in range(9)]).fluctuation == pytest.approx(0, abs=1e-12)
    # t^2 lies 2/3 below its mean over three points.
    bend = fluctuation([float(t * t) for t in range(9)], window=3).fluctuation
    assert bend == pytest.approx(2 / 3 * math.sqrt(3 / 2))


def test_nan_stays_nan():
    assert math.isnan(fluctuation([1.0, math.nan, 1.0, 2.0, 3.0, 4.0, 5.0]).fluctuation)
    assert math.isnan(fluctuation([1.0, math.inf, -math.inf, 2.0, 3.0, 4.0, 5.0]).fluctuation)


@pytest.mark.parametrize(
    ("curve", "window", "message"),
    [
        ([1.0] * 9, 4, "odd window of at least 3, got window=4"),
        ([1.0] * 9, 1, "odd window of at least 3, got window=1"),
        ([1.0] * 4, 5, "over 5 points needs a curve as long, got 4: take a smaller"),
    ],
)
def test_refuses(curve, window, message):
    with pytest.raises(ValueError, match=message):
        fluctuation(curve, window)
