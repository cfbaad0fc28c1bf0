r"""How often the scheduler inside has stepped: the base run's clock, whatever the batch.

    clock "examples":   ticks = step up to W,   then max(W, S0*e + min(S0, floor(n/B0)))
    clock "steps":      ticks = step
    clock "epochs":     ticks = e

e: epochs that have ended; n: examples consumed in the present one; B0: the base batch; S0: steps of
the base run's epoch, floor(N/B0) of N examples, rounded up where it keeps a short last batch; W:
`warmup_steps`. So an epoch's end is the base run's, whatever a larger batch leaves out there. Where
no sampler told N, e is 0.

A warm-up that goes step by step is LEGW's: its epochs grow linearly with the batch (You et al.
2019, "Large-batch training for LSTM and beyond"). That the clock then catches up with the examples,
so that the decay ends where the base run's does, is our decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .position import Position

__all__ = ["Clock", "ClockKind"]

ClockKind = Literal["examples", "steps", "epochs"]


@dataclass
class Clock:
    """The count of the scheduler inside.

    Example:
        >>> clock = Clock("examples", base_batch=8)
        >>> clock.due(Position(step=1, examples=20)), clock.due(Position(step=2, examples=40))
        (2, 3)
    """

    kind: ClockKind
    base_batch: int
    warmup_steps: int = 0
    ticks: int = 0

    def check(self, now: Position) -> None:
        """Raise RuntimeError where epochs count and the length of the data is not known."""
        if self.kind == "epochs" and now.length is None:
            raise RuntimeError(
                "clock='epochs' needs the length of the data: call schedule.sampler(len(data)) "
                "before the first step, or choose another clock"
            )

    def due(self, now: Position, *, drop_last: bool = True) -> int:
        """Steps that the scheduler inside has to take for the run to stand at `now`."""
        if self.kind == "steps" or self.ticks < self.warmup_steps:
            due = 1
        elif self.kind == "epochs":
            due = now.epoch - self.ticks
        else:
            due = max(0, self._counted(now, drop_last) - self.ticks)
        self.ticks += due
        return due

    def _counted(self, now: Position, drop_last: bool) -> int:
        if now.length is None or now.length < self.base_batch:
            return now.examples // self.base_batch
        short = 0 if drop_last else self.base_batch - 1
        epoch = (now.length + short) // self.base_batch
        return now.epoch * epoch + min(epoch, now.place // self.base_batch)
