r"""How often the scheduler inside has stepped: the base run's clock, whatever the batch.

    clock "examples":   ticks = step up to W,   then max(W, floor(n/B0))
    clock "steps":      ticks = step
    clock "epochs":     ticks = epochs that have ended

n: examples consumed, a short last batch counted whole as in the base run; B0: the base batch; W:
`warmup_steps`. A warm-up that goes step by step is LEGW's: its epochs grow linearly with the batch
(You et al. 2019, "Large-batch training for LSTM and beyond"). That the clock then catches up with
the examples, so that the decay ends where the base run's does, is our decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .plan import Planned

__all__ = ["Clock", "ClockKind"]

ClockKind = Literal["examples", "steps", "epochs"]


@dataclass
class Clock:
    """The count of the scheduler inside.

    Example:
        >>> from largebatch.batching.position import Position
        >>> clock = Clock("examples", base_batch=8)
        >>> done, now = Planned(Position(), 20), Planned(Position(), 20)
        >>> clock.due(done, now), clock.due(done, now)
        (2, 3)
    """

    kind: ClockKind
    base_batch: int
    warmup_steps: int = 0
    ticks: int = 0
    examples: int = 0

    def due(self, done: Planned, now: Planned) -> int:
        """Steps that the scheduler inside takes between the two."""
        self.examples += done.size
        if self.kind == "steps" or self.ticks < self.warmup_steps:
            due = 1
        elif self.kind == "epochs":
            due = now.position.epoch - done.position.epoch
        else:
            due = max(0, self.examples // self.base_batch - self.ticks)
        self.ticks += due
        return due
