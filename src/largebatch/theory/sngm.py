r"""The bounds for SNGM, whole and block-wise, and their optima.

    (1/T) sum_t E‖grad F(w_t)‖ <=
        (1-beta)·D/(eta·T) + L·k·eta/2 + 2·sigma/√B                    Theorem 1, [11]
      2·(1-beta)·D/(eta·T) + 8·L·k·eta + 4·sigma/√B                    Theorem 2, [12]
    2·p·(1-beta)·D/(eta·T) + 8·L·p·S·k·eta + 2·sigma·(1+p·√S)/√B       Theorem 3

Theorem 1 wants L-smoothness and holds for every eta; Theorem 2 wants (L, lambda)-smoothness and
8·eta·k·lambda <= 1; Theorem 3 is for block-wise SNGM on S blocks, with 8·eta·k·lambda·p·S <= 1.
k = (1+beta)/(1-beta)², p = p(S) the largest ‖g‖/sum_s ‖g^(s)‖ along the path, in [1/√S, 1]; eta is
constant, T steps, B batch size, beta momentum. Theorem 2 is not the tightest: at lambda = 0 it is
above Theorem 1.

Source: Zhao et al. (SNGM), Theorems 1 to 3, Corollaries 1 and 2, Lemmas 1 and 2.
"""

from __future__ import annotations

from math import exp, sqrt

from .checks import above, at_least, fraction
from .norm_bound import NormBound
from .problem import Problem, Setting, momentum_factor

__all__ = [
    "gradient_norm_bound",
    "momentum_norm_bound",
    "sngm",
    "sngm_blockwise",
    "sngm_relaxed",
    "sngm_setting",
]


def sngm(problem: Problem, momentum: float = 0.9) -> NormBound:
    """Theorem 1: SNGM on an L-smooth problem, at any learning rate.

    Args:
        problem: what was measured; its relaxed smoothness must be 0.
        momentum: beta in [0, 1).

    Raises:
        ValueError: momentum out of range; a problem that is only (L, lambda)-smooth.

    Example:
        >>> bound = sngm(Problem(gap=1.0, smoothness=2.0, deviation=3.0), momentum=0.0)
        >>> bound(lr=0.5, steps=10, batch_size=9)
        2.7
    """
    k = momentum_factor(momentum)
    if problem.relaxed_smoothness:
        raise ValueError(
            "Theorem 1 needs an L-smooth problem, got relaxed_smoothness="
            f"{problem.relaxed_smoothness:g}: take sngm_relaxed, or measure L along the path and "
            "leave lambda at 0"
        )
    return NormBound(
        start=(1 - momentum) * problem.gap,
        drift=problem.smoothness * k / 2,
        noise=2 * problem.deviation,
    )


def sngm_relaxed(problem: Problem, momentum: float = 0.9) -> NormBound:
    """Theorem 2: SNGM on an (L, lambda)-smooth problem, where 8·eta·k·lambda <= 1.

    Raises:
        ValueError: momentum out of range.

    Example:
        >>> problem = Problem(gap=1.0, smoothness=2.0, deviation=3.0, relaxed_smoothness=0.5)
        >>> bound = sngm_relaxed(problem, momentum=0.0)
        >>> bound.largest_lr, bound(lr=0.25, steps=10, batch_size=9)
        (0.25, 8.8)
    """
    return sngm_blockwise(problem, 1, 1.0, momentum)


def sngm_blockwise(problem: Problem, blocks: int, ratio: float, momentum: float = 0.9) -> NormBound:
    """Theorem 3: block-wise SNGM on an (L, lambda)-smooth problem.

    Its least value over eta is p·√S >= 1 times Theorem 2's in the first two terms and
    (1 + p·√S)/2 times in the third: that is all that [18] says. It compares two upper bounds, of
    which neither is a rate; block-wise updates can be the faster ones.

    Args:
        problem: what was measured.
        blocks: S, 1 or more.
        ratio: p(S), the largest :func:`block_ratio` of the path, in [1/√S, 1].
        momentum: beta in [0, 1).

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> problem = Problem(gap=1.0, smoothness=2.0, deviation=3.0)
        >>> sngm_blockwise(problem, blocks=4, ratio=0.5, momentum=0.0)(0.25, 10, 9)
        12.4
    """
    k = momentum_factor(momentum)
    at_least("blocks", blocks, 1)
    least = 1 / sqrt(blocks)
    # Computed from equal norms, in float32 too, a ratio may miss its least value by rounding.
    if not least * (1 - 1e-6) <= ratio <= 1 + 1e-6:
        raise ValueError(
            f"p(S) must be in [1/√S, 1] = [{least:g}, 1] for {blocks} blocks, got ratio={ratio}: "
            "take the largest block_ratio of the run"
        )
    scale = 8 * k * ratio * blocks
    growth = scale * problem.relaxed_smoothness
    return NormBound(
        start=2 * ratio * (1 - momentum) * problem.gap,
        drift=scale * problem.smoothness,
        noise=2 * problem.deviation * (1 + ratio * sqrt(blocks)),
        largest_lr=1 / growth if growth else float("inf"),
        condition="8·eta·k·lambda·p·S <= 1" if blocks > 1 else "8·eta·k·lambda <= 1",
    )


def sngm_setting(computations: float) -> Setting:
    """Corollaries 1 and 2: B = √C, T = C/B and eta = C^(-1/4) for C gradient computations.

    With it every term of Theorem 1, and of Theorem 2 where its condition holds, falls as C^(-1/4),
    whatever L is: the batch need not shrink as curvature grows. Corollary 2's eta, as our copy of
    the document prints it, is √(1/C), with which the first term stays where it is.

    Raises:
        ValueError: computations below 1.

    Example:
        >>> sngm_setting(10_000.0)
        Setting(lr=0.1, steps=100.0, batch_size=100.0)
    """
    at_least("computations", computations, 1)
    root = sqrt(computations)
    return Setting(lr=1 / sqrt(root), steps=root, batch_size=root)


def momentum_norm_bound(momentum: float, steps: int | None = None, blocks: int = 1) -> float:
    """Lemma 2: SNGM's momentum is never longer than 1/(1-beta), times √S if block-wise.

    After ``steps`` updates from u = 0 it is at most (1-beta^t)/(1-beta); the document gives the
    limit. With weight decay inside the norm, as ours has it, it holds all the same.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> momentum_norm_bound(0.5), momentum_norm_bound(0.5, steps=2)
        (2.0, 1.5)
    """
    fraction("momentum", momentum)
    at_least("blocks", blocks, 1)
    left = 0.0 if steps is None else momentum ** at_least("steps", steps)
    return sqrt(blocks) * (1 - left) / (1 - momentum)


def gradient_norm_bound(problem: Problem, gradient_norm: float, distance: float) -> float:
    """Lemma 1: ‖grad F(u)‖ <= (L·a + ‖grad F(w)‖)·e^(lambda·a) for ‖u - w‖ <= a.

    Args:
        problem: its smoothness L and relaxed smoothness lambda.
        gradient_norm: ‖grad F(w)‖, 0 or more.
        distance: a, above 0.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> gradient_norm_bound(Problem(1.0, 2.0, 0.0), gradient_norm=3.0, distance=0.5)
        4.0
    """
    at_least("gradient_norm", gradient_norm)
    above("distance", distance)
    growth = exp(problem.relaxed_smoothness * distance)
    return (problem.smoothness * distance + gradient_norm) * growth
