"""Runs whose deviation is known at each epoch."""

import math

import pytest
import torch

from largebatch.probes import dispersion


def test_few_runs_have_an_unbiased_variance_at_each_epoch():
    deviations = torch.linspace(0.5, 2, 4, dtype=torch.float64)
    runs = deviations * torch.randn(4000, 3, 4, dtype=torch.float64) + 7
    found = [dispersion(three.tolist()) for three in runs]
    # Relative errors of 1/sqrt(4000): 1.6%; divided by 3 for 2 it is 33%.
    squares = torch.tensor([each.by_epoch for each in found]).double().square().mean(0)
    torch.testing.assert_close(squares, deviations**2, rtol=0.08, atol=0)
    assert found[0].dispersion == pytest.approx(sum(found[0].by_epoch) / 4)
    assert found[0].runs == 3


def test_nan_stays_nan():
    found = dispersion([[1.0, 2.0], [3.0, math.nan]])
    assert found.by_epoch[0] == pytest.approx(math.sqrt(2))
    assert math.isnan(found.by_epoch[1])
    assert math.isnan(found.dispersion)


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ([[1.0]], "at least two runs, got 1"),
        ([[1.0], [1.0, 2.0]], r"equally many epochs, at least one, got \[1, 2\]: cut the longer"),
        ([[], []], r"at least one, got \[0\]"),
    ],
)
def test_refuses(curves, message):
    with pytest.raises(ValueError, match=message):
        dispersion(curves)
