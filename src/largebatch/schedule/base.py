"""A learning-rate schedule: the factor that multiplies the peak rate at each optimizer step.

    eta_t = eta_peak * f(t)

t: optimizer steps taken so far, an int from 0 (not epochs, not micro-batches); f(t): a factor of at
least 0, usually at most 1; eta_peak: the rate that the optimizer was made with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["Schedule", "check_factor"]


class Schedule(ABC):
    """A factor of the peak rate for each step; each one is a small frozen dataclass.

    A schedule holds no state: the factor at a step is the same whenever it is asked for. Schedules
    that wrap another ask it with the same step, counted from the start of training.

    Example:
        >>> from largebatch.schedule import Linear
        >>> halves = Linear(total=2)
        >>> [halves(step) for step in range(4)]
        [1.0, 0.5, 0.0, 0.0]
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the factor at `step`, counted from 0."""


def check_factor(name: str, value: object, *, zero: bool = True) -> None:
    """Raise ValueError unless `value` is a finite number of at least (`zero`: or above) 0.

    Example:
        >>> check_factor("start", -1.0)
        Traceback (most recent call last):
        ValueError: start must be a finite number of at least 0, got -1.0
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    least = "of at least 0" if zero else "above 0"
    if not number or not 0 <= value < float("inf") or (value == 0 and not zero):  # type: ignore[operator]
        raise ValueError(f"{name} must be a finite number {least}, got {value!r}")
