"""Bugs that turn these red: B/B_crit upside down, a rate that is not the best one."""

import pytest

from largebatch.theory import (
    critical_batch_size,
    examples_to_target,
    lr_at_batch_size,
    steps_to_target,
)


@pytest.mark.parametrize("batch", [1, 100, 2000, 64_000])
def test_steps_and_examples_lie_on_the_hyperbola(batch):
    critical = critical_batch_size(1000, 2_000_000)
    steps = steps_to_target(batch, 1000, critical)
    examples = examples_to_target(batch, 2_000_000, critical)
    assert examples == pytest.approx(steps * batch)
    assert (steps / 1000 - 1) * (examples / 2_000_000 - 1) == pytest.approx(1)


def test_the_two_ends():
    assert steps_to_target(1e12, 1000, 2000) == pytest.approx(1000)
    assert examples_to_target(1e-6, 2_000_000, 2000) == pytest.approx(2_000_000)
    assert steps_to_target(2000, 1000, 2000) == 2 * 1000


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_lr_is_the_one_that_gains_most(batch):
    # A loss of curvature h in every direction: a step of eta·g gains
    # eta·‖G‖² - eta²·h·(‖G‖² + tr(Sigma)/B)/2, so eta_max = 1/h and B_noise = tr(Sigma)/‖G‖².
    square, trace, h = 2.0, 30.0, 4.0

    def gain(lr):
        return lr * square - lr**2 * h * (square + trace / batch) / 2

    best = max((i * 1e-5 for i in range(1, 30_000)), key=gain)
    assert lr_at_batch_size(batch, 1 / h, trace / square) == pytest.approx(best, abs=2e-5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: critical_batch_size(0, 1), "fewest_steps"),
        (lambda: critical_batch_size(1, -1), "fewest_examples"),
        (lambda: steps_to_target(0, 1, 1), "batch_size"),
        (lambda: examples_to_target(1, 1, 0), "critical"),
        (lambda: lr_at_batch_size(1, 1, float("nan")), "noise"),
    ],
)
def test_what_is_not_above_zero_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name} must be finite and above 0"):
        call()
