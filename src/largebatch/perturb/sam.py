r"""Sharpness-aware minimization: look where the loss grows fastest, within a radius.

    offset = rho * g / ||g||        g the gradient at w, ||.|| over all perturbed weights at once

Shapes: g and the offset have the weights'. g is the whole batch's mean gradient, or each worker's
own (m-SAM, m examples a worker). No offset where ||g|| is 0. Two gradients a step.
Source: Foret et al., "Sharpness-aware minimization for efficiently improving generalization"
(2021), Eq. 2-3 with p = 2, Algorithm 1; m-SAM its Section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..contracts import Perturbation, Point, Scope
from ..layout import Layout, joint_norm
from .filters import check_width

__all__ = ["SAM"]


@dataclass(frozen=True)
class SAM(Perturbation):
    """Sharpness-aware minimization, on the batch's gradient or on each worker's own.

    Args:
        rho: length of the offset, 0 or more, in units of the weights; the paper's is 0.05.
        per_worker: True for m-SAM: each worker climbs its own gradient.

    Raises:
        ValueError: rho negative or not finite.

    Example:
        >>> import largebatch as lb
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> workers = lb.Workers(model, optimizer, perturb=SAM(rho=0.05), count=4)
        >>> x, y = torch.randn(32, 4), torch.randn(32, 2)
        >>> for xi, yi in workers.shards(x, y):  # all four look, then all four count
        ...     with workers.next() as worker:
        ...         (model(xi) - yi).square().mean().backward()
        >>> workers.combine()
        >>> optimizer.step()
    """

    rho: float = 0.05
    per_worker: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_width("SAM", "rho", self.rho)

    def passes(self, step: int) -> Literal[1, 2]:
        """Two: the gradient at w says where to look."""
        return 2

    def scope(self, step: int) -> Scope:
        """The batch, or the worker for m-SAM."""
        return "worker" if self.per_worker else "batch"

    @property
    def sharded(self) -> bool:
        """The gradient's norm is over whole parameters."""
        return True

    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """rho*g/||g||."""
        if memory is None:
            raise ValueError("SAM looks along a gradient that a first pass must have found")
        if self.per_worker:
            factor = self._factor(memory, point.layouts)
        else:  # all workers climb the same gradient: its norm is needed once
            factor = point.once(self, lambda: self._factor(memory, point.layouts))
        # The factor keeps its precision: only the product is rounded to a half.
        return [(g * factor.to(g.device)).to(g.dtype) for g in memory]

    def _factor(self, gradients: Sequence[Tensor], layouts: Sequence[Layout]) -> Tensor:
        """Rho/||g||, 0 for a gradient of 0."""
        double = any(g.dtype == torch.float64 for g in gradients)
        wide = torch.float64 if double else torch.float32
        norms = torch._foreach_norm(list(gradients), 2, wide)
        norm = joint_norm(layouts, torch.stack([n.to(norms[0].device) for n in norms]))
        return torch.where(norm > 0, self.rho / norm, torch.zeros_like(norm))
