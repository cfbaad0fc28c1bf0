"""Against closed forms, scipy and brute force."""

import math
import random

import pytest
from scipy import stats as scipy_stats

from largebatch.lab.report.stats import (
    binomial_error_points,
    estimate,
    paired_difference,
    quantile,
    recovered_share,
)

A = {0: 90.1, 1: 88.0, 2: 93.5, 3: 91.2, 4: 89.9}
B = {0: 88.9, 1: 87.1, 2: 92.8, 3: 89.0, 4: 89.7}


def test_estimate_is_scipys_interval_of_a_mean():
    values = [3.1, 2.9, 4.4, 3.6]
    found = estimate(values)
    low, high = scipy_stats.t.interval(
        0.95, len(values) - 1, sum(values) / 4, scipy_stats.sem(values)
    )
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.sd == pytest.approx(scipy_stats.tstd(values))


def test_quantile_for_five_seeds_is_students_not_the_normals():
    assert quantile(5) == pytest.approx(2.7764, abs=1e-4)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_interval_without_two_values(values):
    if values:
        assert estimate(values).low is None
        assert not estimate(values).excludes_zero
    else:
        with pytest.raises(ValueError, match="needs 1 value or more, given 0"):
            estimate(values)
    with pytest.raises(ValueError, match="needs 2 values or more"):
        quantile(len(values))


def test_paired_difference_is_scipys_paired_test():
    found = paired_difference(A, B)
    theirs = scipy_stats.ttest_rel(list(A.values()), list(B.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert found.n == 5


def test_pairing_removes_what_seeds_share():
    luck = {s: 10.0 * s for s in range(5)}
    difference = paired_difference({s: v + 1 + s % 2 for s, v in luck.items()}, luck)
    assert difference.excludes_zero
    assert difference.sd < 1


def test_a_pair_with_a_diverged_run_is_left_out_and_the_number_of_pairs_says_so():
    found = paired_difference(A | {1: None}, B | {4: None, 9: 1.0})
    assert found.n == 3
    assert found.mean == pytest.approx((1.2 + 0.7 + 2.2) / 3)


def test_no_common_seed_is_no_difference():
    assert paired_difference({0: 1.0, 1: None}, {1: 1.0}) is None


def test_binomial_error_is_the_spread_of_simulated_test_sets():
    rng = random.Random(0)
    sets = [100 * sum(rng.random() < 0.8 for _ in range(200)) / 200 for _ in range(2000)]
    mean = sum(sets) / len(sets)
    spread = math.sqrt(sum((s - mean) ** 2 for s in sets) / (len(sets) - 1))
    assert binomial_error_points(80.0, 200) == pytest.approx(spread, rel=0.06)


@pytest.mark.parametrize(("accuracy", "examples"), [(101.0, 10), (-1.0, 10), (50.0, 0)])
def test_binomial_error_refuses_what_is_no_accuracy(accuracy, examples):
    with pytest.raises(ValueError, match="is the metric an accuracy in percent"):
        binomial_error_points(accuracy, examples)


def test_share_holds_every_ratio_that_a_t_test_does_not_reject():
    rng = random.Random(1)
    lost = [10 + rng.gauss(0, 1) for _ in range(5)]
    won = [0.6 * x + rng.gauss(0, 0.5) for x in lost]
    share = recovered_share(won, lost)
    kept = [
        r / 2000
        for r in range(0, 3000)
        if scipy_stats.ttest_1samp(
            [a - r / 2000 * b for a, b in zip(won, lost, strict=True)], 0
        ).pvalue
        >= 0.05
    ]
    assert (share.low, share.high) == pytest.approx((min(kept), max(kept)), abs=1e-3)
    assert share.value == pytest.approx(sum(won) / sum(lost))


def test_share_interval_covers_the_truth_as_often_as_it_says():
    rng, hits, runs = random.Random(2), 0, 1500
    for _ in range(runs):
        lost = [10 + rng.gauss(0, 2) for _ in range(5)]
        won = [7 + 0.5 * (x - 10) + rng.gauss(0, 1) for x in lost]
        share = recovered_share(won, lost)
        hits += share is not None and share.low <= 0.7 <= share.high
    assert hits / runs == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("won", "lost"),
    [
        ([1.0], [2.0]),  # one pair has no interval
        ([1.0, 1.0, 1.0], [-5.0, -5.1, -4.9]),  # nothing was lost
        ([1.0, 2.0, 3.0], [3.0, -3.0, 1.0]),  # the loss is noise
    ],
)
def test_no_share_of_a_loss_that_does_not_show(won, lost):
    assert recovered_share(won, lost) is None


def test_negative_recovery_stays_negative():
    assert recovered_share([-1.0, -1.1, -0.9], [4.0, 4.0, 4.1]).value < -0.2
