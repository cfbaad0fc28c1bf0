r"""Courses: the batch size of each step, written down beforehand.

    Stages   B(t) = the size of the last stage that begins at or before t
    Ramp     B(t) = start + increment * min(floor(n * t / over), n),   n = (end - start)/increment

B: examples per optimizer step, over all replicas; t: examples, tokens, steps or epochs (`key`).
Sources: stages by epoch, CURV Sec. 3.2; in place of decaying the rate, Smith et al. (2018), "Don't
decay the learning rate, increase the batch size"; the ramp is the form of Megatron-LM's
``--rampup-batch-size START INCREMENT SAMPLES``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..whole import check_whole
from .position import Position, check_key, moment

__all__ = ["Course", "Ramp", "Stages"]


class Course(ABC):
    """The batch size of each step; each one is a small frozen dataclass without state.

    Example:
        >>> course = Stages({0: 32, 10: 64}, key="steps")
        >>> course(Position(step=9), 32, None), course(Position(step=10), 32, None)
        (32, 64)
    """

    @abstractmethod
    def __call__(
        self, position: Position, current: int | None, noise_scale: float | Tensor | None
    ) -> int:
        """Return the batch size of the step that begins at `position`.

        Args:
            position: what was consumed before.
            current: the batch size of the step before; None at the first.
            noise_scale: what was last observed, in examples; None before that.
        """

    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Every batch size that the course can reach, so that all are checked before training."""


@dataclass(frozen=True)
class Stages(Course):
    """One size after another, each from a stated moment on.

    Moments that are no whole numbers are compared to 12 significant digits, so that a stage at
    3 * 0.1 begins at 0.3 of an epoch and not one step later.

    Args:
        stages: ``{from: size}``; the first begins at 0.
        key: what "from" counts: "examples", "tokens", "steps" or "epochs" (a fraction may be).
        tokens_per_example: the length of a sequence, for "tokens"; the same for all.

    Raises:
        ValueError: no stage at 0, a moment below 0, a size below 1, or an unknown key.

    Example:
        >>> Stages({0: 512, 1: 8192}, key="epochs").sizes()
        (512, 8192)
    """

    stages: tuple[tuple[float, int], ...] | Mapping[float, int]
    key: str
    tokens_per_example: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no course; keep a mapping as pairs, which have a hash."""
        check_key(self.key, self.tokens_per_example)
        pairs = tuple(sorted((moment(at), size) for at, size in dict(self.stages).items()))
        if not pairs or pairs[0][0] != 0:
            found = f"the first at {pairs[0][0]!r}" if pairs else "none"
            raise ValueError(f"stages must begin at 0, got {found}: say the size of the first step")
        for _, size in pairs:
            check_whole("each stage's batch size", size)
        object.__setattr__(self, "stages", pairs)

    def __call__(
        self, position: Position, current: int | None, noise_scale: float | Tensor | None
    ) -> int:
        """Return the size of the last stage that has begun."""
        now = moment(position.measured(self.key, self.tokens_per_example))
        return [size for start, size in self._pairs() if start <= now][-1]

    def sizes(self) -> tuple[int, ...]:
        """Every stage's size, without repetitions."""
        return tuple(dict.fromkeys(size for _, size in self._pairs()))

    def _pairs(self) -> tuple[tuple[float, int], ...]:
        assert isinstance(self.stages, tuple)
        return self.stages

    @classmethod
    def doubling(
        cls, start: int, end: int, every: float, key: str, tokens_per_example: int | None = None
    ) -> Stages:
        """Twice the size every `every`, from `start` until `end`.

        Raises:
            ValueError: `end` is not `start` times a power of two, or `every` is not above 0.

        Example:
            >>> Stages.doubling(64, 256, every=30, key="epochs").stages
            ((0, 64), (30, 128), (60, 256))
        """
        times = check_whole("end", end) // check_whole("start", start)
        if times * start != end or times & (times - 1):
            raise ValueError(
                f"doubling from {start} never comes to {end}: end must be start times 1, 2, 4, ..."
            )
        if not every > 0:
            raise ValueError(f"every must be above 0, got {every!r}")
        count = times.bit_length()
        return cls({i * every: start << i for i in range(count)}, key, tokens_per_example)


@dataclass(frozen=True)
class Ramp(Course):
    """From `start` to `end` by equal increments at even intervals.

    Args:
        start: the batch size of the first step.
        end: the batch size from `over` on.
        increment: what each interval adds; it must divide end - start.
        over: length of the ramp, in the unit of `key`.
        key: "examples", "tokens", "steps" or "epochs".
        tokens_per_example: the length of a sequence, for "tokens".

    Raises:
        ValueError: sizes that the increment does not join, or a length not above 0.

    Example:
        >>> ramp = Ramp(start=16, end=64, increment=16, over=300, key="examples")
        >>> [ramp(Position(examples=n), None, None) for n in (0, 99, 100, 200, 299, 300)]
        [16, 16, 32, 48, 48, 64]
    """

    start: int
    end: int
    increment: int
    over: float
    key: str = "examples"
    tokens_per_example: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no ramp."""
        check_key(self.key, self.tokens_per_example)
        for name in ("start", "end", "increment"):
            check_whole(name, getattr(self, name))
        if self.end < self.start or (self.end - self.start) % self.increment:
            raise ValueError(
                f"a ramp from start={self.start} by increment={self.increment} never comes to "
                f"end={self.end}: increment must divide end - start"
            )
        if not 0 < self.over < float("inf"):
            raise ValueError(f"over must be a finite number above 0, got {self.over!r}")
        # A state names its course by the text, which is to be the same of equal ones.
        object.__setattr__(self, "over", float(self.over))

    def __call__(
        self, position: Position, current: int | None, noise_scale: float | Tensor | None
    ) -> int:
        """Return the size of the interval that `position` lies in."""
        intervals = (self.end - self.start) // self.increment
        now = position.measured(self.key, self.tokens_per_example)
        return self.start + self.increment * min(int(intervals * now / self.over), intervals)

    def sizes(self) -> tuple[int, ...]:
        """Every size between start and end."""
        return tuple(range(self.start, self.end + 1, self.increment))
