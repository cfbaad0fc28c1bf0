"""Numbers of pairs against published tables and against drawn samples."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from largebatch.lab.report.power import (
    pairs_to_decide,
    pairs_to_rule_out,
    pairs_to_see,
    ruling_out,
    seeing,
    upper,
)


@pytest.mark.parametrize(
    ("effect", "power", "pairs"),
    # Two-sided 5%, dependent means, as G*Power and Cohen's tables give them.
    [(0.2, 0.8, 199), (0.5, 0.8, 34), (0.8, 0.8, 15), (1.0, 0.8, 10), (0.5, 0.9, 44)],
)  # fmt: skip
def test_pairs_are_the_published_ones(effect, power, pairs):
    assert pairs_to_see(effect, 1.0, power) == pairs
    assert pairs_to_see(10 * effect, 10.0, power) == pairs


def intervals(pairs, mean, draws=200_000):
    found = np.random.default_rng(pairs).normal(mean, 1.0, size=(draws, pairs))
    half = student.ppf(0.975, pairs - 1) * found.std(1, ddof=1) / math.sqrt(pairs)
    return found.mean(1) - half, found.mean(1) + half


@pytest.mark.parametrize(("pairs", "difference"), [(5, 1.5), (10, 1.0), (34, 0.5), (8, 0.1)])
def test_the_power_is_how_often_an_interval_leaves_zero_out(pairs, difference):
    low, high = intervals(pairs, difference)
    assert ((low > 0) | (high < 0)).mean() == pytest.approx(
        seeing(pairs, difference, 1.0), abs=0.005
    )


@pytest.mark.parametrize(("pairs", "margin"), [(5, 2.0), (13, 1.0), (8, 1.0), (44, 0.5)])
def test_ruling_out_is_how_often_an_interval_lies_within_the_margin(pairs, margin):
    low, high = intervals(pairs, 0.0)
    inside = ((low > -margin) & (high < margin)).mean()
    assert inside == pytest.approx(ruling_out(pairs, margin, 1.0), abs=0.005)


@pytest.mark.parametrize("count", [pairs_to_see, pairs_to_rule_out])
@pytest.mark.parametrize("effect", [0.05, 0.3, 1.0, 4.0])
def test_one_pair_less_is_not_enough(count, effect):
    chance = seeing if count is pairs_to_see else ruling_out
    pairs = count(effect, 1.0, 0.8)
    assert chance(pairs, effect, 1.0) >= 0.8
    assert pairs == 2 or chance(pairs - 1, effect, 1.0) < 0.8


def test_many_pairs_come_to_the_normal_approximation():
    assert pairs_to_see(0.01, 1.0) == pytest.approx((1.95996 + 0.84162) ** 2 * 1e4, rel=1e-3)
    assert pairs_to_rule_out(0.01, 1.0) == pytest.approx((1.95996 + 1.28155) ** 2 * 1e4, rel=1e-3)
    assert pairs_to_decide(0.01, 1.0) == pytest.approx((2 * 1.95996) ** 2 * 1e4, rel=1e-3)


def test_enough_pairs_to_decide_do_decide_wherever_the_mean_is():
    pairs = pairs_to_decide(1.0, 1.0)
    half = student.ppf(0.975, pairs - 1) / math.sqrt(pairs)
    for mean in np.linspace(-2, 2, 401):
        low, high = mean - half, mean + half
        assert low > 0 or high < 0 or (low >= -1 and high <= 1)
    assert student.ppf(0.975, pairs - 2) / math.sqrt(pairs - 1) > 0.5


def test_the_upper_limit_holds_as_often_as_it_says():
    found = np.random.default_rng(0).normal(size=(100_000, 8)).std(1, ddof=1)
    assert (found * upper(1.0, 8, 0.8) > 1).mean() == pytest.approx(0.8, abs=0.005)


def test_no_spread_and_extremes_are_answered():
    assert seeing(5, 1.0, 0.0) == ruling_out(5, 1.0, 0.0) == 1.0
    assert seeing(5, 0.0, 0.0) == 0.05
    assert seeing(1, 1.0, 1.0) == ruling_out(1, 1.0, 1.0) == 0.0
    assert seeing(1000, 100.0, 1.0) == 1.0
    assert pairs_to_see(100.0, 1.0) == pairs_to_see(1.0, 0.0) == 2


@pytest.mark.parametrize("count", [pairs_to_see, pairs_to_rule_out, pairs_to_decide])
@pytest.mark.parametrize("difference", [0.0, -1.0, math.nan, math.inf])
def test_no_difference_is_refused(count, difference):
    with pytest.raises(ValueError, match="needs a difference above 0 to look for"):
        count(difference, 1.0)


def test_a_power_of_one_and_a_spread_of_one_pair_are_refused():
    with pytest.raises(ValueError, match="power is a chance between 0 and 1, given 1"):
        pairs_to_see(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="2 pairs or more, given 1: run more pilot seeds"):
        upper(1.0, 1)


def test_the_power_of_ten_pairs_is_the_published_one():
    assert seeing(10, 1.0, 1.0) == pytest.approx(0.803097, abs=1e-6)  # G*Power 3.1
