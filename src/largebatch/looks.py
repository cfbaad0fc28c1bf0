"""What the passes of a step that only look have found.

    h = sum_i weight_i h_i / sum_i weight_i

i: all workers, of all processes (scope "batch"), or the one that looked last ("worker"). The loss
scale is undone.
A gradient that overflowed becomes zero: weights that are not finite would leave their mark in
running statistics. It is shown in the step's gradient instead, so that a scaler skips the step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .combine import Accumulator, Reduction
from .layout import Layout
from .memory import all_finite
from .parallel import Processes

__all__ = ["Looks"]


class Looks:
    """Adds up what looking passes find, and keeps what offsets are made from.

    Attributes:
        found: the gradient last found, one tensor for each weight; None before.
    """

    def __init__(self, reduction: Reduction, layouts: Sequence[Layout] = ()) -> None:
        """Start with nothing found; ``layouts`` are those of the weights."""
        self.found: list[Tensor] | None = None
        self._layouts = layouts
        self._sum = Accumulator(reduction)
        self._flaw: Tensor | None = None  # 0-dim: NaN where one was not finite, else 0

    @property
    def added(self) -> int:
        """How many passes have been added since the last was found."""
        return self._sum.workers

    def add(
        self, gradients: Sequence[Tensor | None], weight: float | Tensor, *, several: bool = False
    ) -> None:
        """Add one pass's gradients, which are taken over unless ``several`` are added up."""
        self._sum.add(gradients, weight, several=several)

    @torch.no_grad()
    def find(
        self,
        weights: Sequence[Tensor],
        loss_scale: float | Tensor,
        processes: Processes | None = None,
    ) -> None:
        """Take the mean of those added as found, over ``processes`` where given; start the next."""
        looks, self._sum = self._sum, Accumulator(self._sum.reduction)
        if processes is not None and processes.reduces:
            looks.pool(weights, processes)
        undo = 1.0 / (loss_scale * looks.share)
        mean = looks.mean()
        flaw = torch.where(all_finite(mean, self._layouts), 0.0, torch.nan)
        self._flaw = flaw if self._flaw is None else self._flaw + flaw
        self.found = [
            torch.zeros_like(w) if g is None else (g * undo).to(w.dtype)
            for w, g in zip(weights, mean, strict=True)
        ]
        flawed = flaw.isnan()
        for gradient in self.found:
            gradient.masked_fill_(flawed.to(gradient.device), 0.0)

    @property
    def flaw(self) -> Tensor | None:
        """NaN where one that was found is not finite, else 0; 0-dim. None before any."""
        return self._flaw
