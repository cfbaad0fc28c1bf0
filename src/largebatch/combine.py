"""The mean over workers, in the bytes that plain gradient accumulation moves.

    g = sum_i weight_i g_i / sum_i weight_i        reduction "mean"
    g = sum_i p.grad_i                             reduction "sum"

The first worker's gradients become the accumulator; the others are added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .parallel import Processes

__all__ = ["Accumulator", "Reduction"]

Reduction = Literal["mean", "sum"]


class Accumulator:
    """Adds the workers' gradients up and divides once."""

    def __init__(self, reduction: Reduction) -> None:
        """Start empty."""
        self.reduction = reduction
        self.workers = 0
        self._weight: float | Tensor = 0.0
        self._total: list[Tensor | None] = []

    @torch.no_grad()
    def add(
        self, gradients: Sequence[Tensor | None], weight: float | Tensor, *, several: bool = False
    ) -> None:
        """Add one worker's gradients, which are taken over and may be overwritten.

        Where a worker is one of ``several``, what would be taken over is copied: a backward pass
        may leave gradients in buffers of its own, which the next fills anew (CUDA graphs do).
        """
        if several:
            known = self._total or [None] * len(gradients)
            pairs = zip(known, gradients, strict=True)
            gradients = [g.clone() if t is None and g is not None else g for t, g in pairs]
        present = [g for g in gradients if g is not None]
        if self.reduction == "mean" and present and not _is_one(weight):
            torch._foreach_mul_(present, weight)
        if self.workers == 0:
            self._total = list(gradients)
        else:
            self._merge(gradients)
        self.workers += 1
        self._weight = self._weight + weight

    @torch.no_grad()
    def add_sum(self, sums: Sequence[Tensor | None], workers: int, weight: float | Tensor) -> None:
        """Add the sums of several workers' gradients, each of the same weight."""
        self.add(sums, weight)
        self.workers += workers - 1
        self._weight = self._weight + weight * (workers - 1)

    def _merge(self, gradients: Sequence[Tensor | None]) -> None:
        pairs = list(zip(self._total, gradients, strict=True))
        both = [(t, g) for t, g in pairs if t is not None and g is not None]
        if both:
            torch._foreach_add_([t for t, _ in both], [g for _, g in both])
        self._total = [g if t is None else t for t, g in pairs]

    @property
    def total(self) -> list[Tensor | None]:
        """What has been added so far; to be left as it is."""
        return self._total

    @property
    def weight(self) -> float | Tensor:
        """The sum of the weights of those added."""
        return self._weight

    @torch.no_grad()
    def pool(self, like: Sequence[Tensor], processes: Processes) -> None:
        """Add up over processes too; zero, in the form of ``like``, where one has no gradient."""
        pairs = zip(self._total or [None] * len(like), like, strict=True)
        total = [torch.zeros_like(w) if t is None else t for t, w in pairs]
        weight = torch.zeros((), dtype=torch.float64, device=like[0].device) + self._weight
        processes.add_up([*total, weight])
        self._total, self._weight = list(total), weight

    @property
    def share(self) -> float | Tensor:
        """How much of a mean :meth:`mean` gives: below 1 for a short group of reduction "sum"."""
        return 1.0 if self.reduction == "mean" else self._weight

    @torch.no_grad()
    def mean(self) -> list[Tensor | None]:
        """The combined gradient; None where no worker had one."""
        present = [t for t in self._total if t is not None]
        if self.reduction == "mean" and present and not _is_one(self._weight):
            torch._foreach_div_(present, self._weight)
        return self._total


def _is_one(weight: float | Tensor) -> bool:
    return not isinstance(weight, Tensor) and weight == 1
