"""How large an offset is beside the weights that it moves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["relative_norm"]


def relative_norm(offsets: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Tensor:
    """‖offset‖/‖w‖ over the weights that have an offset, 0-dim float32; 0 where none has.

    Example:
        >>> float(relative_norm([torch.ones(4), None], [torch.full((4,), 10.0), torch.ones(9)]))
        0.10000000149011612
    """
    pairs = [(o, w) for o, w in zip(offsets, weights, strict=True) if o is not None]
    if not pairs:
        return torch.zeros(())
    offset = _norm([o for o, _ in pairs])
    weight = _norm([w for _, w in pairs])
    return torch.where(weight > 0, offset / weight, torch.zeros_like(weight))


def _norm(tensors: list[Tensor]) -> Tensor:
    device = tensors[0].device
    norms = [n.to(device=device, dtype=torch.float32) for n in torch._foreach_norm(tensors)]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total
