"""Workers' vectors less their mean, a piece of a layer at a time in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..mesh import local

__all__ = ["centred"]

# Elements of a layer that are taken at a time.
_TOGETHER = 1 << 18


def centred(rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Which elements of the layer (of this process's piece, flat), and theirs of each worker.

    Args:
        rows: M workers' vectors of one layer, shape (M, the layer's).

    Yields:
        Places, and a float64 tensor of shape (M, as many) whose columns have mean zero.
    """
    flat = local(rows).unsqueeze(1).flatten(1)  # also of a layer that is one number
    for start in range(0, flat.shape[1], _TOGETHER):
        places = slice(start, start + _TOGETHER)
        piece = flat[:, places].to(torch.float64)
        yield places, piece - piece.mean(0)
