"""Bugs that turn these red: a constant of a theorem, a lost condition, S for √S, eta for √eta."""

import random
from math import copysign, cosh, hypot, sinh, sqrt

import pytest
import torch

import largebatch as lb
from largebatch.theory import (
    Problem,
    gradient_norm_bound,
    momentum_factor,
    momentum_norm_bound,
    sngm,
    sngm_blockwise,
    sngm_relaxed,
    sngm_setting,
)

PROBLEM = Problem(gap=1.0, smoothness=2.0, deviation=3.0)
RELAXED = Problem(gap=1.0, smoothness=2.0, deviation=3.0, relaxed_smoothness=0.5)


def test_values_by_hand():
    # k = 1.5/0.25 = 6
    assert momentum_factor(0.5) == 6
    first = 0.5 / (0.01 * 1000) + 2 * 6 * 0.01 / 2 + 2 * 3 / 4
    assert sngm(PROBLEM, 0.5)(0.01, 1000, 16) == pytest.approx(first)
    second = 2 * 0.5 / (0.01 * 1000) + 8 * 2 * 6 * 0.01 + 4 * 3 / 4
    assert sngm_relaxed(RELAXED, 0.5)(0.01, 1000, 16) == pytest.approx(second)
    third = 2 * 0.8 * 0.5 / (0.01 * 1000) + 8 * 2 * 0.8 * 4 * 6 * 0.01 + 2 * 3 * (1 + 0.8 * 2) / 4
    assert sngm_blockwise(RELAXED, 4, 0.8, 0.5)(0.01, 1000, 16) == pytest.approx(third)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_theorem_1_is_met_with_equality_where_each_step_is_downhill(steps):
    # F = L·x²/2 from x = N·eta: N steps of eta reach 0 exactly, so no constant can be smaller.
    smoothness, lr = 3.0, 0.25
    x, total = steps * lr, 0.0
    gap = smoothness * x**2 / 2
    for _ in range(steps):
        total += smoothness * abs(x) / steps
        x -= copysign(lr, x)
    assert sngm(Problem(gap, smoothness, 0.0), 0.0)(lr, steps, 1) == pytest.approx(total)


def run(grad, x, lr, momentum, steps, blockwise, noise=0.0, seed=0):
    """Mean gradient norm of SNGM along a path, with noise of deviation ``noise`` in all."""
    source, total = random.Random(seed), 0.0
    x, u = list(x), [0.0] * len(x)
    for _ in range(steps):
        true = grad(x)
        total += hypot(*true) / steps
        g = [a + source.gauss(0, noise / sqrt(len(x))) for a in true]
        norms = [abs(a) for a in g] if blockwise else [hypot(*g)] * len(g)
        u = [momentum * a + b / n for a, b, n in zip(u, g, norms, strict=True)]
        x = [a - lr * b for a, b in zip(x, u, strict=True)]
    return total


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("lr", [0.3, 0.01, 0.001])
def test_runs_stay_under_theorem_1(momentum, lr):
    bound = sngm(Problem(gap=2.5, smoothness=4.0, deviation=1.0), momentum)
    for steps in (10, 300):
        means = [
            run(lambda x: [4 * x[0], x[1]], (1, 1), lr, momentum, steps, False, 1.0, seed)
            for seed in range(20)
        ]
        assert sum(means) / len(means) < bound(lr, steps, 1)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_runs_stay_under_theorem_2_where_no_smoothness_bounds_them(momentum):
    # cosh'' = cosh <= 1 + |sinh|: (1, 1)-smooth, and not smooth.
    bound = sngm_relaxed(Problem(cosh(6.01) - 1, 1.0, 0.0, relaxed_smoothness=1.0), momentum)
    lr = bound.largest_lr
    for steps in (5, 50, 500):
        mean = run(lambda x: [sinh(x[0])], (6.01,), lr, momentum, steps, False)
        assert mean < bound(lr, steps, 1)


def test_runs_stay_under_theorem_3():
    problem = Problem(gap=2.5, smoothness=4.0, deviation=1.0)
    for lr, steps in ((0.3, 20), (0.01, 200)):
        mean = run(lambda x: [4 * x[0], x[1]], (1, 1), lr, 0.5, steps, True, 1.0)
        assert mean < sngm_blockwise(problem, 2, 1.0, 0.5)(lr, steps, 1)


def test_one_block_is_theorem_2():
    assert sngm_blockwise(RELAXED, 1, 1.0, 0.9) == sngm_relaxed(RELAXED, 0.9)


@pytest.mark.parametrize(("blocks", "ratio"), [(4, 0.5), (4, 0.7), (9, 1.0), (1, 1.0)])
def test_eq_18_at_the_best_rate_the_bound_grows_by_p_root_s(blocks, ratio):
    steps, batch = 500, 64
    whole, parts = sngm_relaxed(PROBLEM, 0.5), sngm_blockwise(PROBLEM, blocks, ratio, 0.5)
    excess = ratio * sqrt(blocks)

    def least(bound):
        # by search, not by optimal_lr: the rate that it would give is then checked, too
        best = min(
            (bound(10 ** (-6 + i / 2000), steps, batch), 10 ** (-6 + i / 2000))
            for i in range(12_000)
        )
        assert bound.optimal_lr(steps) == pytest.approx(best[1], rel=2e-3)
        return best[0] - bound.noise / sqrt(batch)

    assert least(parts) == pytest.approx(excess * least(whole), rel=1e-5)
    assert parts.noise == pytest.approx((1 + excess) / 2 * whole.noise)
    assert parts.optimal_lr(steps) == pytest.approx(whole.optimal_lr(steps) / sqrt(blocks))


def test_corollary_1_every_term_falls_as_the_fourth_root():
    for computations in (1e4, 1e8, 1e12):
        setting = sngm_setting(computations)
        assert setting.computations == pytest.approx(computations)
        assert setting.lr == pytest.approx(sqrt(setting.batch_size / computations))
        value = sngm(PROBLEM, 0.5)(setting.lr, setting.steps, setting.batch_size)
        # (1-beta)·D + L·k/2 + 2·sigma
        assert value == pytest.approx((0.5 + 6 + 6) * computations**-0.25)


def test_conditions_are_named():
    with pytest.raises(ValueError, match="Theorem 1 needs an L-smooth problem, got relaxed_smooth"):
        sngm(RELAXED)
    limit = 1 / (8 * 6 * 0.5)
    assert sngm_relaxed(RELAXED, 0.5).largest_lr == pytest.approx(limit)
    with pytest.raises(
        ValueError, match=r"needs 8·eta·k·lambda <= 1, so a rate of at most 0\.0416"
    ):
        sngm_relaxed(RELAXED, 0.5)(limit * 1.01, 10, 1)
    with pytest.raises(
        ValueError, match=r"needs 8·eta·k·lambda·p·S <= 1, so a rate of at most 0\.01"
    ):
        sngm_blockwise(RELAXED, 4, 0.9, 0.5)(limit / 3.5, 10, 1)
    for wrong in (0.49, 1.1):
        with pytest.raises(ValueError, match=r"in \[1/√S, 1\] = \[0\.5, 1\] for 4 blocks"):
            sngm_blockwise(RELAXED, 4, wrong)
    with pytest.raises(ValueError, match="blocks must be finite and at least 1"):
        sngm_blockwise(RELAXED, 0, 1.0)
    with pytest.raises(ValueError, match="computations must be finite and at least 1"):
        sngm_setting(0.5)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got momentum=1.0"):
        sngm(PROBLEM, 1.0)


@pytest.mark.parametrize("blockwise", [False, True])
def test_lemma_2_momentum_of_our_sngm(blockwise):
    shapes, beta = [(3, 2), (4,), (5,)], 0.8
    blocks = len(shapes) if blockwise else 1

    def norm_after(steps, fresh):
        source = torch.Generator().manual_seed(3)
        weights = [torch.nn.Parameter(torch.randn(s, generator=source).double()) for s in shapes]
        rule = lb.SNGM(weights, lr=0.0, momentum=beta, weight_decay=0.0, blockwise=blockwise)
        for step in range(steps):
            for w in weights:
                if step == 0 or fresh:
                    w.grad = 1e3 * torch.randn(w.shape, generator=source).double()
            rule.step()
        states = [rule.state[w] for w in weights]
        return float(
            sum((s["momentum_buffer"] * s["momentum_scale"]).square().sum() for s in states) ** 0.5
        )

    for steps in (1, 2, 30):
        bound = momentum_norm_bound(beta, steps, blocks)
        assert norm_after(steps, fresh=False) == pytest.approx(bound, rel=1e-6)
        assert norm_after(steps, fresh=True) <= bound * (1 + 1e-6)
    assert momentum_norm_bound(beta, 200, blocks) == pytest.approx(
        momentum_norm_bound(beta, blocks=blocks)
    )
    assert momentum_norm_bound(beta) == pytest.approx(5)


def test_lemma_1_on_a_function_that_meets_it():
    problem = Problem(1.0, 1.0, 0.0, relaxed_smoothness=1.0)
    for w in (0.0, 1.0, 4.0):
        for a in (1e-3, 0.1, 1.0, 3.0):
            assert sinh(w + a) <= gradient_norm_bound(problem, sinh(w), a)
    # lambda = 0: the gradient of L·x²/2 meets it with equality.
    assert gradient_norm_bound(PROBLEM, 2.0 * 1.5, 0.5) == pytest.approx(2.0 * 2.0)
    assert gradient_norm_bound(RELAXED, 1.0, 2.0) == pytest.approx(5 * 2.718281828459045)
