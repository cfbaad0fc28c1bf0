"""Where a run stands when a step begins, in every unit that a course may be keyed by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real

from ..whole import check_whole

__all__ = ["KEYS", "Position", "check_key", "moment"]


def moment(value: object) -> float:
    """One number for every way to write a moment: whole ones whole, others to 12 digits.

    Example:
        >>> moment(2.0), moment(3 * 0.1)
        (2, 0.3)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"each stage's moment must be a number, got {value!r}")
    number = float(value)
    if not number.is_integer():
        number = float(f"{number:.12g}")
    return int(number) if number.is_integer() else number


@dataclass(frozen=True)
class Position:
    """Where a run stands: what was consumed before the step in question.

    Attributes:
        step: optimizer steps taken.
        examples: examples consumed, those that an epoch's end dropped not counted.
        epoch: whole passes over the data that have ended.
        place: examples consumed in the present pass.
        batch: steps taken in the present pass.
        length: examples of the data; None where no sampler told.

    Example:
        >>> start = Position(length=100)
        >>> start.advance(25).epochs, start.advance(25).next_epoch().epochs
        (0.25, 1.0)
    """

    step: int = 0
    examples: int = 0
    epoch: int = 0
    place: int = 0
    batch: int = 0
    length: int | None = None

    @property
    def epochs(self) -> float:
        """Passes over the data, a fraction included.

        Raises:
            RuntimeError: the length of the data is not known.
        """
        if self.length is None:
            if self.examples == 0:
                return 0.0
            raise RuntimeError(
                "epochs need the length of the data: call schedule.sampler(len(data)) before the "
                "first step, or key the course by examples"
            )
        return self.epoch + self.place / self.length

    def advance(self, examples: int) -> Position:
        """The position after one more step, on so many examples."""
        return replace(
            self,
            step=self.step + 1,
            examples=self.examples + examples,
            place=self.place + examples,
            batch=self.batch + 1,
        )

    def next_epoch(self) -> Position:
        """The same moment, seen as the start of the next pass."""
        return replace(self, epoch=self.epoch + 1, place=0, batch=0)

    def measured(self, key: str, tokens_per_example: int | None = None) -> float:
        """The position in the unit `key`.

        Example:
            >>> Position(step=3, examples=96).measured("tokens", tokens_per_example=10)
            960.0
        """
        return float(KEYS[key](self, tokens_per_example or 0))


KEYS: dict[str, Callable[[Position, int], float]] = {
    "examples": lambda position, tokens: position.examples,
    "tokens": lambda position, tokens: position.examples * tokens,
    "steps": lambda position, tokens: position.step,
    "epochs": lambda position, tokens: position.epochs,
}


def check_key(key: str, tokens_per_example: int | None) -> None:
    """Raise ValueError for a key that is none, and for tokens without their number an example.

    Example:
        >>> check_key("token", None)
        Traceback (most recent call last):
        ValueError: key must be one of 'examples', 'tokens', 'steps', 'epochs', got 'token'
    """
    if key not in KEYS:
        known = ", ".join(map(repr, KEYS))
        raise ValueError(f"key must be one of {known}, got {key!r}")
    if key == "tokens" and tokens_per_example is None:
        raise ValueError(
            "key='tokens' needs tokens_per_example, the length of a sequence, got None: give it, "
            "or key the course by examples"
        )
    if tokens_per_example is not None:
        check_whole("tokens_per_example", tokens_per_example)
