"""One perturbation up to a step, another from then on: GNC→RNC and its like.

    offset_i(t) = first's for t < at_step, then's for t >= at_step

Source: Haruki et al. (GNC), Section 4: GNC first, RNC from epoch 120 of 160 (CIFAR) or 80 of 90
(ImageNet), each with its own alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..contracts import Memorized, Perturbation, Point, Scope

__all__ = ["Switch"]


@dataclass(frozen=True)
class Switch(Perturbation):
    """``first`` before optimizer step ``at_step``, ``then`` from it on.

    Memory that ``then`` has no use for is freed at the switch.

    Args:
        first: perturbation of steps 0 to at_step - 1.
        then: perturbation of steps at_step and later.
        at_step: step of the switch, counted in optimizer steps from 0.

    Raises:
        ValueError: at_step negative.
        TypeError: first or then is not a perturbation.

    Example:
        >>> import largebatch as lb
        >>> lb.Switch(lb.GNC(0.1), lb.RNC(2.0), at_step=120 * 6).remembers(720)
        'nothing'
    """

    first: Perturbation
    then: Perturbation
    at_step: int

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.at_step < 0:
            raise ValueError(f"Switch needs at_step >= 0, got {self.at_step}")
        for each in (self.first, self.then):
            if not isinstance(each, Perturbation):
                raise TypeError(f"Switch joins two perturbations, got {type(each).__name__}")

    def _at(self, step: int) -> Perturbation:
        return self.first if step < self.at_step else self.then

    def remembers(self, step: int) -> Memorized:
        """What the perturbation in force at that step remembers."""
        return self._at(step).remembers(step)

    def passes(self, step: int) -> Literal[1, 2]:
        """Those of the perturbation in force."""
        return self._at(step).passes(step)

    def scope(self, step: int) -> Scope:
        """That of the perturbation in force."""
        return self._at(step).scope(step)

    def elsewhere(self, step: int) -> bool:
        """Whether the one in force wants other examples in its first pass."""
        return self._at(step).elsewhere(step)

    @property
    def refreshes(self) -> bool:
        """Whether one of the two needs to see the loss."""
        return self.first.refreshes or self.then.refreshes

    def refresh(
        self,
        loss: Callable[[], Tensor],
        weights: Sequence[Tensor],
        step: int,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> Sequence[Tensor]:
        """What the one in force finds; nothing where it does not need to see the loss."""
        now = self._at(step)
        return now.refresh(loss, weights, step, process_group) if now.refreshes else []

    def broadcasts(self, step: int) -> bool:
        """As the one in force."""
        return self._at(step).broadcasts(step)

    @property
    def sharded(self) -> bool:
        """Where both are."""
        return self.first.sharded and self.then.sharded

    @property
    def least_workers(self) -> int:
        """The larger of the two."""
        return max(self.first.least_workers, self.then.least_workers)

    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """The offsets of the perturbation in force."""
        return self._at(point.step).offsets(point, worker, memory)
