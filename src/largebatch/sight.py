"""Where the workers of one step look: the perturbation's offsets at the step's clean weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .checks import check_offsets
from .contracts import Point
from .gathering import Gathering
from .layout import layouts_of
from .memory import Memory
from .mesh import local
from .norms import relative_norm
from .order import Worker
from .rates import Owned, rates_of
from .settings import Settings

__all__ = ["Several", "Sight"]


@dataclass
class Several:
    """Workers whose passes run as one.

    Attributes:
        parameters: those in training.
        weights: for each, what the workers look at, and whether that has a row for each worker.
        gradients: to be filled: for each, a row for each worker, or None where there is none.
    """

    parameters: Sequence[Tensor]
    weights: Sequence[tuple[Tensor, bool]]
    gradients: list[Tensor | None] = field(default_factory=list)


class Sight:
    """One step's clean weights, and the offsets of each of its workers.

    Args:
        settings: what Workers was made with.
        step: number of the step.
        owned: the parameters in training that the optimizers hold.
        gathering: what the step's passes have found so far.
        memory: what is remembered of each worker; None where nothing is.
        shown: what the perturbation's refresh returned last.

    Attributes:
        weights: the clean ones, of this process's pieces.
        offset_to_weight_norm: of the first worker, 0-dim; None before it, or unperturbed.
    """

    def __init__(
        self,
        settings: Settings,
        step: int,
        owned: Sequence[Owned],
        gathering: Gathering,
        memory: Memory | None,
        shown: list[Tensor] | None,
    ) -> None:
        """Nobody has looked yet."""
        parameters = [p for p, _, _ in owned]
        self.weights = [local(p.detach()) for p in parameters]
        self.offset_to_weight_norm: Tensor | None = None
        self._settings = settings
        self._gathering = gathering
        self._memory = memory
        self._point = Point(
            step,
            self.weights,
            lambda kind: rates_of(owned, kind),
            workers=settings.workers,
            memories=self._memories,
            add_up=settings.processes.add_up,
            shown=shown,
            layouts=layouts_of(parameters),
        )

    @torch.no_grad()
    def offsets(self, worker: Worker, local: int) -> Sequence[Tensor | None]:
        """Those of this process's worker ``local``, one or None for each weight."""
        perturb = self._settings.perturb
        if perturb is None or not worker.counts:
            return [None] * len(self.weights)
        memory: Sequence[Tensor] | None = self._gathering.looks.found
        if memory is None and self._memory is not None:
            memory = self._memory.of(local)
        offsets = perturb.offsets(self._point, worker.index, memory)
        check_offsets(perturb, offsets, self.weights)
        if local == 0:
            self._measure(offsets)
        return offsets

    @torch.no_grad()
    def of_several(
        self, first: int, size: int, others: Sequence[Tensor]
    ) -> list[tuple[Tensor, bool]]:
        """What ``size`` workers from ``first`` on look at, and whether they differ in it.

        ``others`` are parameters in training that no optimizer given holds: none is perturbed.
        """
        offsets = self._offsets_of_several(first, size)
        found = [
            (w, False) if offset is None else (w + offset, True)
            for w, offset in zip(self.weights, offsets, strict=True)
        ]
        return found + [(p.detach(), False) for p in others]

    def _offsets_of_several(self, first: int, size: int) -> list[Tensor | None]:
        perturb, settings = self._settings.perturb, self._settings
        if perturb is not None and perturb.broadcasts(self._point.step):
            memory = None if self._memory is None else self._memory.of_several(first, size)
            found = perturb.offsets(self._point, settings.number(first), memory)
            if first == 0:
                self._measure([None if o is None else o[0] for o in found])
            return list(found)
        numbers = range(first, first + size)
        rows = zip(*(self.offsets(Worker(settings.number(i)), i) for i in numbers), strict=True)
        return [None if row[0] is None else torch.stack(row) for row in rows]

    def close(self) -> None:
        """Nobody looks any more: let go of what is remembered, and of what passes have found."""
        self._memory, self._gathering = None, Gathering(self._settings)

    def _measure(self, offsets: Sequence[Tensor | None]) -> None:
        self.offset_to_weight_norm = relative_norm(offsets, self.weights, self._point.layouts)

    def _memories(self) -> list[list[Tensor]]:
        if self._memory is None or not self._memory.filled:
            return []
        if self._gathering.workers:
            raise RuntimeError(
                "mean_over_workers needs what is remembered of all workers, but some of this "
                "step's have run: ask for it for each worker, the first included"
            )
        slots = (self._memory.of(worker) for worker in range(self._settings.count))
        return [slot for slot in slots if slot is not None]
