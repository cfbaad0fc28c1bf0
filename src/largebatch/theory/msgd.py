r"""The bound for momentum SGD, and how it limits the batch.

    (1/T) sum_t E‖grad F(w_t)‖² <= 2(1-beta)·D/(eta·T)  +  L·eta·sigma²/((1-beta)²·B)
                                   +  4·L²·eta²·sigma²/(1-beta)²           [4]
    where eta <= (1-beta)²/((1+beta)·L)

D, L, sigma: :class:`Problem`; eta a constant learning rate, T steps, B batch size, beta momentum.
The left side is a mean *squared* gradient norm; its root bounds the mean norm (Jensen).
Source: Zhao et al. (SNGM), Eq. 4 to 6, after Yu, Jin and Yang (2019), Theorem 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

from .checks import above, at_least, fraction
from .problem import Problem

__all__ = ["SquaredNormBound", "msgd"]


@dataclass(frozen=True)
class SquaredNormBound:
    """A bound on the mean squared gradient norm: start/(eta·T) + drift·eta/B + square·eta².

    Attributes:
        start: what the distance from the optimum costs.
        drift: what the noise of a batch costs.
        square: what the noise costs that no batch averages out in this bound.
        largest_lr: above it the bound says nothing.

    Example:
        >>> bound = SquaredNormBound(start=2.0, drift=1.0, square=4.0, largest_lr=1.0)
        >>> bound(lr=0.5, steps=4, batch_size=2)
        2.25
    """

    start: float
    drift: float
    square: float
    largest_lr: float

    def __call__(self, lr: float, steps: float, batch_size: float) -> float:
        """The bound's value, in squared units of a gradient norm.

        Raises:
            ValueError: a number out of its range, or ``lr`` above ``largest_lr``.
        """
        above("lr", lr)
        at_least("steps", steps, 1)
        at_least("batch_size", batch_size, 1)
        if lr > self.largest_lr * (1 + 1e-12):
            raise ValueError(
                f"the bound of momentum SGD needs eta <= (1-beta)²/((1+beta)·L) = "
                f"{self.largest_lr:g}, got lr={lr:g}: take a smaller rate"
            )
        return self.start / (lr * steps) + self.drift * lr / batch_size + self.square * lr**2

    def optimal_lr(self, steps: float, batch_size: float) -> float:
        """The rate in (0, largest_lr] where the bound is least.

        Raises:
            ValueError: fewer than one step or example.
        """
        at_least("steps", steps, 1)
        at_least("batch_size", batch_size, 1)
        low, high = 0.0, self.largest_lr
        # The slope -start/(T·eta²) + drift/B + 2·square·eta grows with eta: halve the interval.
        for _ in range(200):
            lr = (low + high) / 2
            rising = (self.drift / batch_size + 2 * self.square * lr) * lr**2 > self.start / steps
            low, high = (low, lr) if rising else (lr, high)
        return high

    def largest_batch(self, computations: float) -> float:
        """The largest batch that costs nothing in this bound [6], for C gradient computations.

            B = min(largest_lr·√C, √(drift/square)·C^(1/4))

        At the document's eta = B/√C the first two terms do not depend on B. The first limit is
        where that rate reaches ``largest_lr``: (1-beta)²·√C/((1+beta)·L). The second is where the
        third term reaches the second: C^(1/4)/(2√L). The document gives both without constants,
        as min(√C/L, C^(1/4)); the constants here are those of [4]. Below 1, no batch is free.

        Raises:
            ValueError: computations below 1.
        """
        at_least("computations", computations, 1)
        balance = sqrt(self.drift / self.square) if self.square else inf
        return min(self.largest_lr * sqrt(computations), balance * sqrt(sqrt(computations)))


def msgd(problem: Problem, momentum: float = 0.9) -> SquaredNormBound:
    """The bound [4] for momentum SGD on an L-smooth problem.

    Args:
        problem: what was measured; its relaxed smoothness must be 0.
        momentum: beta in [0, 1).

    Raises:
        ValueError: momentum out of range; a problem that is only (L, lambda)-smooth.

    Example:
        >>> bound = msgd(Problem(gap=1.0, smoothness=2.0, deviation=3.0), momentum=0.0)
        >>> bound(lr=0.25, steps=100, batch_size=9)
        9.58
        >>> bound(lr=1.0, steps=100, batch_size=9)
        Traceback (most recent call last):
        ValueError: the bound of momentum SGD needs eta <= (1-beta)²/((1+beta)·L) = 0.5, got lr=1:
        take a smaller rate
    """
    rest = 1 - fraction("momentum", momentum)
    if problem.relaxed_smoothness:
        raise ValueError(
            "the bound of momentum SGD needs an L-smooth problem, got relaxed_smoothness="
            f"{problem.relaxed_smoothness:g}: measure L along the path and leave lambda at 0"
        )
    smoothness, variance = problem.smoothness, problem.deviation**2
    return SquaredNormBound(
        start=2 * rest * problem.gap,
        drift=smoothness * variance / rest**2,
        square=4 * smoothness**2 * variance / rest**2,
        largest_lr=rest**2 / ((1 + momentum) * smoothness),
    )
