r"""Where a process's pieces of parameters stand in the whole ones, and sums over them.

    whole = pieces side by side over a mesh        a parameter that is not cut is its one piece

What is drawn at random is drawn for the whole parameter and then cut, so that it does not depend
on how many processes hold it; what is summed over a parameter is summed over all its pieces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .mesh import Sharding, sharding

__all__ = ["Layout", "everywhere", "joint_norm", "layouts_of", "totals"]


@dataclass(frozen=True)
class Layout:
    """One parameter: its whole shape, and how it is cut.

    Attributes:
        shape: of the whole parameter.
        sharding: how it lies on a mesh of processes; None for one that is not cut.

    Example:
        >>> whole = Layout(torch.Size([3, 2]))
        >>> whole.cut(torch.ones(3, 2)).shape, whole.cuts_filters
        (torch.Size([3, 2]), False)
    """

    shape: torch.Size
    sharding: Sharding | None = None

    def cut(self, whole: Tensor) -> Tensor:
        """This process's piece of a tensor of the whole shape: a view."""
        return whole if self.sharding is None else self.sharding.piece(whole)

    def joined(self, piece: Tensor) -> Tensor:
        """The whole tensor, from every process's piece."""
        if self.sharding is None:
            return piece
        stride = torch.empty(self.shape, device="meta").stride()
        return self.sharding.gathered(piece, self.shape, stride)

    @property
    def cuts_filters(self) -> bool:
        """Whether a slice of dimension 0 may lie on several processes."""
        if self.sharding is None:
            return False
        cuts = (each for each in self.sharding.placements if each.is_shard())
        return any(each.dim != 0 for each in cuts)


def layouts_of(parameters: Sequence[Tensor]) -> list[Layout]:
    """How each parameter is laid out."""
    return [Layout(parameter.shape, sharding(parameter)) for parameter in parameters]


def totals(layouts: Sequence[Layout], sums: Sequence[Tensor]) -> list[Tensor]:
    """Each of ``sums``, over one process's piece of a parameter, over the whole one.

    Shapes: those of ``sums``, alike on all processes. One message for all that lie alike.
    """
    found = list(sums)
    for where, places in _alike(layouts).items():
        if where is None:
            continue
        flat = where.total(torch.cat([sums[j].reshape(-1) for j in places]))
        pieces = torch.split(flat, [math.prod(sums[j].shape) for j in places])
        for j, piece in zip(places, pieces, strict=True):
            found[j] = piece.view(sums[j].shape).to(sums[j].dtype)
    return found


def joint_norm(layouts: Sequence[Layout], norms: Tensor) -> Tensor:
    """Length of whole tensors as one vector, 0-dim, from the lengths of this process's pieces."""
    alike = _alike(layouts)
    if set(alike) <= {None}:
        return _length(norms)
    squares = norms.square()
    parts = [
        squares[places].sum() if where is None else where.total(squares[places].sum())
        for where, places in alike.items()
    ]
    return torch.stack(parts).sum().sqrt()


def everywhere(layouts: Sequence[Layout], flag: Tensor) -> Tensor:
    """Whether a flag, 0-dim, is set on every process that has a piece of these."""
    for where in _alike(layouts):
        if where is not None:
            flag = where.total((~flag).to(torch.float32)) == 0
    return flag


def _alike(layouts: Sequence[Layout]) -> dict[Sharding | None, list[int]]:
    """Places of the parameters that lie alike, in the order in which they come."""
    found: dict[Sharding | None, list[int]] = {}
    for place, layout in enumerate(layouts):
        found.setdefault(layout.sharding, []).append(place)
    return found


def _length(norms: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(norms)
    return length
