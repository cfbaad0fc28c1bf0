r"""Schedules around another one: gradual warm-up before it, a final collapse at its end.

    WarmUp          f(t) = start + (1 - start) * t/W   for t < W,   then(t) from W on
    FinalCollapse   f(t) = then(t)                     for t < K,   then(t)/divisor from K on

t: optimizer steps from 0, for the wrapped schedule too: it is not counted from the end of the
warm-up. A shape that falls from step 0 on thus joins below the peak: GNC's ImageNet schedule ramps
to 1 and goes on at (1 - W/T)^2, as the document's equation says it.
Sources: warm-up, Goyal et al. (2017), Sec. 2.2; final collapse, Codreanu et al. (2017); both as in
GNC (Haruki et al. 2019, App. A.4, A.5 and Table 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..whole import check_whole
from .base import Schedule, check_factor
from .decay import Constant

__all__ = ["FinalCollapse", "WarmUp"]


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A straight line from `start` at step 0 to 1 at step `steps`, and from there on `then`.

    Args:
        steps: W; 0 leaves `then` alone.
        start: the factor of step 0; a start rate divided by the peak rate.
        then: the schedule afterwards, asked with the step counted from the start of training.

    Example:
        >>> from largebatch.schedule import Linear
        >>> course = WarmUp(steps=4, start=0.2, then=Linear(total=10))
        >>> [round(course(step), 3) for step in range(6)]
        [0.2, 0.4, 0.6, 0.8, 0.6, 0.5]
    """

    steps: int
    start: float = 0.0
    then: Schedule = field(default_factory=Constant)

    def __post_init__(self) -> None:
        """Refuse values that make no schedule."""
        check_whole("steps", self.steps, least=0)
        check_factor("start", self.start)
        _check_schedule(self.then)

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""
        if step < self.steps:
            return self.start + (1.0 - self.start) * step / self.steps
        return self.then(step)


@dataclass(frozen=True)
class FinalCollapse(Schedule):
    """`then`, divided by `divisor` from `step` on.

    Example:
        >>> from largebatch.schedule import Linear
        >>> course = FinalCollapse(step=8, then=Linear(total=10))
        >>> [round(course(step), 3) for step in (7, 8, 9)]
        [0.3, 0.04, 0.02]
    """

    step: int
    then: Schedule = field(default_factory=Constant)
    divisor: float = 5.0

    def __post_init__(self) -> None:
        """Refuse values that make no schedule."""
        check_whole("step", self.step, least=0)
        check_factor("divisor", self.divisor, zero=False)
        _check_schedule(self.then)

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""
        factor = self.then(step)
        return factor / self.divisor if step >= self.step else factor


def _check_schedule(then: object) -> None:
    if not isinstance(then, Schedule):
        raise ValueError(
            f"then must be a schedule such as largebatch.schedule.Linear(total=100), got {then!r}"
        )
