"""A bound on the mean gradient norm in the rate, the steps and the batch, and where it is least.

    start/(eta·T)  +  drift·eta  +  noise/√B,      eta <= largest_lr

All three of SNGM's theorems have this form. In log eta and log B it is convex (a sum of products of
powers), so a limit that the free optimum breaks is met exactly by the optimum inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

from .checks import above, at_least
from .problem import Setting

__all__ = ["NormBound"]


@dataclass(frozen=True)
class NormBound:
    """A bound on the mean gradient norm of a run, in units of a gradient norm.

    Attributes:
        start: what the distance from the optimum costs.
        drift: what the length of a step costs.
        noise: what the noise of a batch costs.
        largest_lr: above it the bound says nothing; infinite where any rate is allowed.
        condition: the inequality that ``largest_lr`` comes from.

    Example:
        >>> bound = NormBound(start=4.0, drift=1.0, noise=2.0)
        >>> bound(lr=0.5, steps=16, batch_size=4)
        2.0
        >>> bound.optimal_lr(steps=16)
        0.5
        >>> bound.optimal(computations=64)
        Setting(lr=0.5, steps=16.0, batch_size=4.0)
    """

    start: float
    drift: float
    noise: float
    largest_lr: float = inf
    condition: str = ""

    def __call__(self, lr: float, steps: float, batch_size: float) -> float:
        """The bound's value.

        Raises:
            ValueError: a number out of its range, or ``lr`` above ``largest_lr``.
        """
        above("lr", lr)
        at_least("steps", steps, 1)
        at_least("batch_size", batch_size, 1)
        if lr > self.largest_lr * (1 + 1e-12):
            raise ValueError(
                f"the bound needs {self.condition}, so a rate of at most {self.largest_lr:g}, "
                f"got lr={lr:g}: take a smaller rate"
            )
        return self.start / (lr * steps) + self.drift * lr + self.noise / sqrt(batch_size)

    def optimal_lr(self, steps: float) -> float:
        """The rate where the bound is least for T steps: √(start/(drift·T)), or the largest.

        Raises:
            ValueError: fewer than one step.
        """
        return min(sqrt(self.start / (self.drift * at_least("steps", steps, 1))), self.largest_lr)

    def optimal(self, computations: float) -> Setting:
        """The setting where the bound is least for C = T·B gradient computations, 1 <= B <= C.

            B = (noise/2)·√(C/(start·drift))          where the best rate is within largest_lr
            B = (noise·largest_lr·C/(2·start))^(2/3)  where it is not

        Raises:
            ValueError: computations below 1.
        """
        at_least("computations", computations, 1)
        batch_size = self.noise / 2 * sqrt(computations / (self.start * self.drift))
        if sqrt(self.start * batch_size / (self.drift * computations)) > self.largest_lr:
            limited = self.noise * self.largest_lr * computations / (2 * self.start)
            batch_size = limited ** (2 / 3)
        batch_size = min(max(batch_size, 1.0), float(computations))
        steps = computations / batch_size
        return Setting(self.optimal_lr(steps), steps, batch_size)
