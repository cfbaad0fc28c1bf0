r"""Schedules that fall from the peak.

    Constant     f(t) = value
    Linear       f(t) = 1 - (1 - end) * min(t/T, 1)
    Polynomial   f(t) = end + (1 - end) * (1 - min(t/T, 1))^power
    MultiStep    f(t) = factor^(number of milestones <= t)
    Cosine       f(t) = end + (1 - end) * (1 + cos(pi * min(t'/T, 1))) / 2,   t' = n*floor(t/n)

t: optimizer steps from 0; T: `total`, in steps; n: `per`, steps during which the cosine stands
still; end: the factor from step T on.
Sources: Polynomial with power 2 as GNC's on ImageNet (Haruki et al. 2019, App. A.5); MultiStep as
its CIFAR's (App. A.4, after He et al. 2016); Cosine held over an epoch as SNGM's (Zhao et al. 2024,
after Loshchilov and Hutter 2017, without restarts).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi

from ..whole import check_whole
from .base import Schedule, check_factor

__all__ = ["Constant", "Cosine", "Linear", "MultiStep", "Polynomial"]


@dataclass(frozen=True)
class Constant(Schedule):
    """The same factor at every step.

    Example:
        >>> Constant()(1000)
        1.0
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that make no schedule."""
        check_factor("value", self.value)

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""
        return float(self.value)


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from 1 at step 0 to `end` at step `total`, then `end`.

    Example:
        >>> [Linear(total=4)(step) for step in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """

    total: int
    end: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that make no schedule."""
        check_whole("total", self.total)
        check_factor("end", self.end)

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""
        return 1.0 - (1.0 - self.end) * min(step / self.total, 1.0)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """A power of the share of steps that is left, from 1 at step 0 to `end` at step `total`.

    Example:
        >>> [Polynomial(total=4)(step) for step in (0, 2, 4)]
        [1.0, 0.25, 0.0]
    """

    total: int
    power: float = 2.0
    end: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that make no schedule."""
        check_whole("total", self.total)
        check_factor("power", self.power, zero=False)
        check_factor("end", self.end)

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""
        left: float = (1.0 - min(step / self.total, 1.0)) ** self.power
        return self.end + (1.0 - self.end) * left


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Multiplied by `factor` at each milestone, from that step on.

    Example:
        >>> [MultiStep(milestones=(80, 120))(step) for step in (79, 80, 120)]
        [1.0, 0.1, 0.010000000000000002]
    """

    milestones: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values that make no schedule."""
        if not isinstance(self.milestones, Iterable):
            raise ValueError(f"milestones must be a tuple of steps, got {self.milestones!r}")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for milestone in self.milestones:
            check_whole("each milestone", milestone)
        if sorted(set(self.milestones)) != list(self.milestones):
            raise ValueError(f"milestones must increase, got {self.milestones}")
        check_factor("factor", self.factor)

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""
        reached = sum(milestone <= step for milestone in self.milestones)
        return float(self.factor**reached)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 at step 0 to `end` at step `total`, without restarts.

    With `per` the steps of an epoch the rate is held within each epoch: in epoch m of E it is
    (1 + cos(pi*m/E))/2, so that the last epoch still moves.

    Example:
        >>> [round(Cosine(total=4)(step), 4) for step in range(6)]
        [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
        >>> [round(Cosine(total=4, per=2)(step), 4) for step in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]
    """

    total: int
    per: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that make no schedule."""
        check_whole("total", self.total)
        check_whole("per", self.per)
        check_factor("end", self.end)

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""
        share = min(step // self.per * self.per / self.total, 1.0)
        return self.end + (1.0 - self.end) * (1.0 + cos(pi * share)) / 2.0
