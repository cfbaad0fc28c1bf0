r"""An adaptive course: the batch follows the measured noise scale.

    B* = smallest * 2^floor(log2(multiple * S / smallest)),  within smallest ... largest

S: the simple noise scale tr(Sigma)/‖G‖², in examples (McCandlish et al. 2018, "An empirical model
of large-batch training", Sec. 2), as ``GradientMoments.noise_scale`` gives it. At a batch of S half
of the examples' worth is spent and half of the steps saved; they raise the batch along a run as S
grows. The ladder of powers of two and one doubling a decision are our decisions: few sizes mean few
recompilations, and a single bad estimate cannot carry the batch away.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from ..whole import check_whole
from .caller import users_level
from .course import Course
from .position import Position

__all__ = ["FollowNoise"]


@dataclass(frozen=True)
class FollowNoise(Course):
    """The batch size nearest below `multiple` times the observed noise scale.

    Tell the noise scale by ``schedule.observe(...)``, from a run's mean moments and not from one
    step's. It is read on the host at decisions only.

    Args:
        smallest: the batch size of the first step; others are it times a power of two.
        largest: what the batch never exceeds.
        every: steps between decisions.
        multiple: batch size aimed at, in noise scales.
        shrink: whether a smaller noise scale makes the batch smaller again.

    A decision at most doubles the batch (or halves it). Where no positive, finite noise scale was
    observed before a decision, the batch stays as it is, with a UserWarning.

    Raises:
        ValueError: sizes that are no ladder, `every` below 1, or `multiple` not above 0.

    Example:
        >>> course = FollowNoise(smallest=32, largest=512, every=100)
        >>> course(Position(step=100), 32, 300.0), course(Position(step=200), 64, 300.0)
        (64, 128)
        >>> course(Position(step=300), 256, 300.0), course(Position(step=301), 256, 9000.0)
        (256, 256)
    """

    smallest: int
    largest: int
    every: int
    multiple: float = 1.0
    shrink: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no course."""
        for name in ("smallest", "largest", "every"):
            check_whole(name, getattr(self, name))
        if self.largest < self.smallest:
            raise ValueError(
                f"largest must be at least smallest={self.smallest}, got {self.largest}"
            )
        if not 0 < self.multiple < float("inf"):
            raise ValueError(f"multiple must be a finite number above 0, got {self.multiple!r}")
        # A state names its course by the text, which is to be the same of equal ones.
        object.__setattr__(self, "multiple", float(self.multiple))

    def __call__(
        self, position: Position, current: int | None, noise_scale: float | Tensor | None
    ) -> int:
        """Return `current`, or at a decision the size that follows the noise scale."""
        if current is None:
            return self.smallest
        if position.step % self.every:
            return current
        scale = None if noise_scale is None else float(noise_scale)
        if scale is None or not isfinite(scale) or scale <= 0:
            _warn_unmeasured(position.step, current, scale)
            return current
        target = self._below(self.multiple * scale)
        if target > current:
            return min(target, 2 * current)
        return max(target, current // 2) if self.shrink else current

    def _below(self, examples: float) -> int:
        return max((size for size in self.sizes() if size <= examples), default=self.smallest)

    def sizes(self) -> tuple[int, ...]:
        """The ladder from smallest to largest."""
        count = (self.largest // self.smallest).bit_length()
        return tuple(self.smallest << i for i in range(count))


def _warn_unmeasured(step: int, current: int, scale: float | None) -> None:
    what = "none was observed" if scale is None else f"{scale} was observed"
    warnings.warn(
        f"FollowNoise needs a positive, finite noise scale to decide at step {step}, {what}: the "
        f"batch stays at {current}; call schedule.observe(noise_scale) before schedule.step()",
        UserWarning,
        stacklevel=users_level(),
    )
