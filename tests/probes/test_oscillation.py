"""Curves whose changes can be counted."""

import math

import pytest

from largebatch.probes import Oscillation, oscillation


def test_swings_and_drops():
    assert oscillation([10.0, 60.0, 20.0, 90.0]) == Oscillation((50 + 40 + 70) / 3, 40.0)
    assert oscillation([10.0, 20.0, 90.0]) == Oscillation(40.0, 0.0)
    assert oscillation([5.0, 5.0]) == Oscillation(0.0, 0.0)


def test_nan_stays_nan():
    found = oscillation([10.0, math.nan, 90.0, 80.0])
    assert math.isnan(found.oscillation)
    assert math.isnan(found.largest_drop)


def test_refuses_one_epoch():
    with pytest.raises(ValueError, match="at least two epochs, got 1"):
        oscillation([50.0])
