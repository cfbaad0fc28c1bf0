"""How large an offset is beside the weights that it moves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layout import Layout, joint_norm

__all__ = ["relative_norm"]


def relative_norm(
    offsets: Sequence[Tensor | None],
    weights: Sequence[Tensor],
    layouts: Sequence[Layout] | None = None,
) -> Tensor:
    """‖offset‖/‖w‖ over the weights that have an offset, 0-dim float32; 0 where none has.

    Example:
        >>> float(relative_norm([torch.ones(4), None], [torch.full((4,), 10.0), torch.ones(9)]))
        0.10000000149011612
    """
    known = [Layout(w.shape) for w in weights] if layouts is None else layouts
    found = [each for each in zip(offsets, weights, known, strict=True) if each[0] is not None]
    if not found:
        return torch.zeros(())
    lie = [layout for _, _, layout in found]
    offset = _norm([o for o, _, _ in found if o is not None], lie)
    weight = _norm([w for _, w, _ in found], lie)
    return torch.where(weight > 0, offset / weight, torch.zeros_like(weight))


def _norm(tensors: list[Tensor], layouts: list[Layout]) -> Tensor:
    device = tensors[0].device
    norms = [n.to(device=device, dtype=torch.float32) for n in torch._foreach_norm(tensors)]
    return joint_norm(layouts, torch.stack(norms))
