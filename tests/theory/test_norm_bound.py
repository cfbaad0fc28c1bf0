"""Bugs that turn these red: a wrong power in an optimum, a limit that the optimum walks through."""

import random
from math import exp, inf, log

import pytest

from largebatch.theory import NormBound


def least_of_a_grid(bound: NormBound, computations: float) -> float:
    """The least value over 1 <= B <= C and eta <= largest, found without any formula.

    A finer grid around the best point of the last one, five times.
    """
    top = min(bound.largest_lr, 1e4)
    centre, width = (log(computations) / 2, log(top) - 20), (log(computations) / 2, 20.0)
    best = inf
    for _ in range(7):
        points = [
            (
                min(max(centre[0] + width[0] * i / 12, 0.0), log(computations)),
                min(centre[1] + width[1] * j / 12, log(top)),
            )
            for i in range(-12, 13)
            for j in range(-12, 13)
        ]
        values = [bound(exp(r), max(computations / exp(b), 1.0), exp(b)) for b, r in points]
        best = min(best, min(values))
        centre = points[values.index(min(values))]
        width = (width[0] / 4, width[1] / 4)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_optimum_is_the_least_of_a_search(seed):
    source = random.Random(seed)
    start, drift, noise = (10 ** source.uniform(-2, 2) for _ in range(3))
    limit = inf if seed % 3 == 0 else 10 ** source.uniform(-4, 1)
    bound = NormBound(start, drift, noise, limit, "eta <= limit")
    computations = 10 ** source.uniform(1, 7)
    found = bound.optimal(computations)
    assert found.computations == pytest.approx(computations)
    value = bound(found.lr, max(found.steps, 1.0), found.batch_size)
    assert value == pytest.approx(least_of_a_grid(bound, computations), rel=1e-4)


@pytest.mark.parametrize(
    ("noise", "limit", "kind"),
    [(4.0, inf, "free"), (4.0, 0.01, "limited"), (0.0, inf, "one"), (1e9, inf, "all")],
)
def test_each_of_the_four_cases_is_met(noise, limit, kind):
    bound = NormBound(2.0, 3.0, noise, limit, "eta <= limit")
    found = bound.optimal(10_000)
    cases = {
        "free": 1 < found.batch_size < 10_000 and found.lr < limit,
        "limited": 1 < found.batch_size < 10_000 and found.lr == limit,
        "one": found.batch_size == 1,
        "all": found.batch_size == 10_000,
    }
    assert cases[kind]
    value = bound(found.lr, found.steps, found.batch_size)
    assert value == pytest.approx(least_of_a_grid(bound, 10_000), rel=1e-4)


def test_without_a_limit_the_least_value_falls_as_the_fourth_root():
    bound = NormBound(2.0, 3.0, 4.0)
    small, large = (bound.optimal(c) for c in (1e4, 16e4))
    values = [bound(s.lr, s.steps, s.batch_size) for s in (small, large)]
    assert values[0] / values[1] == pytest.approx(2)
    assert large.batch_size / small.batch_size == pytest.approx(4)


def test_the_limit_is_held_and_its_condition_named():
    bound = NormBound(2.0, 3.0, 4.0, 0.1, "8·eta·k·lambda <= 1")
    assert bound.optimal_lr(1) == 0.1
    bound(0.1, 1, 1)
    with pytest.raises(ValueError, match=r"needs 8·eta·k·lambda <= 1, so a rate of at most 0\.1,"):
        bound(0.1001, 1, 1)
    with pytest.raises(ValueError, match="computations must be finite and at least 1"):
        bound.optimal(0.5)
    with pytest.raises(ValueError, match="steps must be finite and at least 1"):
        bound(0.1, 0.5, 1)
