"""All parameters as one vector, also where processes hold pieces of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layout import Layout, layouts_of
from ..mesh import Sharding, local, placed

__all__ = ["Space"]


class Space:
    """Vectors over all parameters, as one flat tensor each: of sharded ones, of the local pieces.

    Float64 where any of the parameters is, else float32.

    Attributes:
        sharding: how the parameters are cut; None where they are not.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        """Read shapes and placements; ValueError where some are sharded otherwise than others."""
        self._parameters = parameters
        self._layouts = layouts_of(parameters)
        self._shapes = [local(p).shape for p in parameters]
        doubles = any(p.dtype == torch.float64 for p in parameters)
        self._wide = torch.float64 if doubles else torch.float32
        self.sharding = _one_sharding(self._layouts)

    def total(self, sums: Tensor) -> Tensor:
        """Sums over the parameters, from those over the local pieces."""
        return sums if self.sharding is None else self.sharding.total(sums)

    def length(self, vector: Tensor) -> Tensor:
        """Of a vector over all parameters, 0-dim."""
        if self.sharding is not None:
            return self.total(vector.square().sum()).sqrt()
        length: Tensor = vector.norm()
        return length

    def random(self, source: torch.Generator) -> Tensor:
        """Of length 1; drawn for whole parameters."""
        sizes = [layout.shape.numel() for layout in self._layouts]
        drawn = torch.randn(sum(sizes), generator=source, dtype=torch.float64)
        pieces = zip(torch.split(drawn / drawn.norm(), sizes), self._layouts, strict=True)
        mine = [layout.cut(piece.view(layout.shape)).reshape(-1) for piece, layout in pieces]
        return torch.cat(mine).to(self._parameters[0].device, self._wide)

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """One flat vector, from a tensor for each parameter."""
        return torch.cat([local(t.detach()).reshape(-1).to(self._wide) for t in tensors])

    def uncut(self, vector: Tensor) -> list[Tensor]:
        """A tensor for each parameter, laid out as it is, from one flat vector."""
        pieces = torch.split(vector, [shape.numel() for shape in self._shapes])
        each = zip(pieces, self._shapes, self._parameters, strict=True)
        return [placed(piece.view(shape).to(p.dtype), p) for piece, shape, p in each]

    def cut(self, vectors: Tensor) -> list[Tensor]:
        """For each parameter its (local) part of several flat vectors, which are the rows."""
        pieces = torch.split(vectors, [shape.numel() for shape in self._shapes], dim=1)
        each = zip(pieces, self._shapes, strict=True)
        return [piece.reshape(len(vectors), *shape) for piece, shape in each]


def _one_sharding(layouts: Sequence[Layout]) -> Sharding | None:
    """Any of the parameters', which must all be cut over the same processes."""
    cut = [layout.sharding for layout in layouts if layout.sharding is not None]
    kinds = {(each.mesh, _cuts(each)) for each in cut}
    if cut and (len(cut) < len(layouts) or len(kinds) > 1):
        raise ValueError(
            "eigenvectors need parameters that are all cut over the same processes, or none: "
            "apply fully_shard to the whole model over one mesh"
        )
    return cut[0] if cut else None


def _cuts(where: Sharding) -> tuple[bool, ...]:
    return tuple(placement.is_shard() for placement in where.placements)
