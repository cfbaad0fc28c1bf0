"""Bugs that turn these red: a lost power of 1-beta, sigma for sigma², the limit on eta not held."""

import random
from math import inf, sqrt

import pytest

from largebatch.theory import Problem, msgd

PROBLEM = Problem(gap=1.0, smoothness=2.0, deviation=3.0)


def test_value_by_hand():
    bound = msgd(PROBLEM, momentum=0.5)
    # 2·0.5·1/(0.01·1000) + 2·0.01·9/(0.25·8) + 4·4·0.0001·9/0.25
    assert bound(0.01, 1000, 8) == pytest.approx(0.1 + 0.09 + 0.0576, rel=1e-12)
    assert bound.largest_lr == pytest.approx(0.25 / 3)  # (1-beta)²/((1+beta)·L)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_noisy_quadratic_stays_under_the_bound(momentum):
    # F = (4·x² + y²)/2: L = 4; noise of variance 0.5 a coordinate: sigma² = 1 at B = 1.
    source = random.Random(1)
    bound = msgd(Problem(gap=2.5, smoothness=4.0, deviation=1.0), momentum)
    lr, steps, runs, total = bound.largest_lr / 2, 60, 200, 0.0
    for _ in range(runs):
        w, u = [1.0, 1.0], [0.0, 0.0]
        for _ in range(steps):
            g = [4 * w[0], w[1]]
            total += (g[0] ** 2 + g[1] ** 2) / (runs * steps)
            u = [momentum * a + b + source.gauss(0, sqrt(0.5)) for a, b in zip(u, g, strict=True)]
            w = [a - lr * b for a, b in zip(w, u, strict=True)]
    assert 0 < total < bound(lr, steps, 1)


@pytest.mark.parametrize(("steps", "batch"), [(10, 1), (1000, 1), (1000, 64), (10**6, 8)])
def test_optimal_lr_is_the_least_of_a_grid(steps, batch):
    bound = msgd(PROBLEM, momentum=0.5)
    best = bound.optimal_lr(steps, batch)
    grid = [bound.largest_lr * 10 ** (-i / 50) for i in range(400)]
    assert bound(best, steps, batch) <= min(bound(lr, steps, batch) for lr in grid)
    assert min(grid, key=lambda lr: bound(lr, steps, batch)) == pytest.approx(best, rel=0.05)


def test_largest_batch_is_where_one_of_its_two_limits_is_met():
    for computations in (1e2, 1e5, 1e9, 1e13):
        bound = msgd(PROBLEM, momentum=0.5)
        batch = bound.largest_batch(computations)
        lr = batch / sqrt(computations)  # the document's rate
        third_to_second = bound.square * lr**2 / (bound.drift * lr / batch)
        assert max(lr / bound.largest_lr, third_to_second) == pytest.approx(1)


def test_largest_batch_grows_and_shrinks_as_the_document_says():
    def largest(computations, smoothness):
        return msgd(Problem(1.0, smoothness, 3.0), 0.5).largest_batch(computations)

    # √C/L, then C^(1/4): by the rate's limit in short runs, by the third term in long ones
    assert largest(400.0, 100.0) == pytest.approx(2 * largest(100.0, 100.0))
    assert largest(100.0, 100.0) == pytest.approx(2 * largest(100.0, 200.0))
    assert largest(16e14, 1.0) == pytest.approx(2 * largest(1e14, 1.0))


def test_without_noise_the_rate_alone_limits_the_batch():
    bound = msgd(Problem(1.0, 2.0, deviation=0.0), momentum=0.0)
    assert bound.largest_batch(1e12) == pytest.approx(1e6 / 2)
    assert bound.optimal_lr(100, 1) == bound.largest_lr


def test_conditions_are_named():
    bound = msgd(PROBLEM, momentum=0.5)
    bound(bound.largest_lr, 10, 1)
    with pytest.raises(ValueError, match=r"eta <= \(1-beta\)²/\(\(1\+beta\)·L\) = 0.0833333"):
        bound(bound.largest_lr * 1.001, 10, 1)
    with pytest.raises(ValueError, match=r"needs an L-smooth problem, got relaxed_smoothness=0\.5"):
        msgd(Problem(1.0, 2.0, 3.0, relaxed_smoothness=0.5))
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got momentum=1"):
        msgd(PROBLEM, momentum=1)
    with pytest.raises(ValueError, match="steps must be finite and at least 1"):
        bound.optimal_lr(0, 1)
    with pytest.raises(ValueError, match="batch_size must be finite and at least 1, got batch_siz"):
        bound(0.01, 10, 0.5)
    with pytest.raises(ValueError, match="lr must be finite and above 0, got lr=-1"):
        bound(-1, 10, 1)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("gap", (0.0, 1.0, 1.0)),
        ("smoothness", (1.0, 0.0, 1.0)),
        ("deviation", (1.0, 1.0, -1.0)),
        ("deviation", (1.0, 1.0, inf)),
        ("relaxed_smoothness", (1.0, 1.0, 1.0, -0.1)),
    ],
)
def test_a_problem_names_the_number_that_is_wrong(name, numbers):
    with pytest.raises(ValueError, match=f"^{name} must be finite"):
        Problem(*numbers)
