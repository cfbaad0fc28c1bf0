r"""Parameters that are cut over a mesh of processes (DTensor): their local pieces and whole sums.

    sum over the whole parameter = sum over processes of the sum over each one's piece

Element-wise work is done on the local piece, which is exact; what is summed over a parameter is
summed over its pieces first and then, in one small all-reduce, over the mesh.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["Sharding", "local", "placed", "sharding"]


@dataclass(frozen=True)
class Sharding:
    """How a parameter lies on a mesh; equal for parameters that lie alike.

    Attributes:
        mesh: the mesh of processes.
        placements: how each of its dimensions cuts or copies the parameter.
    """

    mesh: DeviceMesh
    placements: tuple[Any, ...]

    def total(self, sums: Tensor) -> Tensor:
        """The sums over whole parameters, from those over the local pieces."""
        for dimension, placement in enumerate(self.placements):
            if placement.is_shard():
                sums = sums.clone()
                group = self.mesh.get_group(dimension)
                torch.distributed.all_reduce(sums, group=group)
        return sums

    def placed(self, piece: Tensor, shape: torch.Size, stride: tuple[int, ...]) -> Tensor:
        """The DTensor of ``shape`` of which every process has its piece."""
        from torch.distributed.tensor import DTensor

        return DTensor.from_local(
            piece, self.mesh, self.placements, run_check=False, shape=shape, stride=stride
        )

    def gathered(self, piece: Tensor, shape: torch.Size, stride: tuple[int, ...]) -> Tensor:
        """The whole tensor of ``shape``, on every process."""
        whole: Tensor = self.placed(piece, shape, stride).full_tensor()  # type: ignore[attr-defined]
        return whole

    def piece(self, whole: Tensor) -> Tensor:
        """This process's piece of a whole tensor: a view, cut as torch.chunk cuts."""
        for dimension, placement in enumerate(self.placements):
            if placement.is_shard():
                length = whole.shape[placement.dim]
                each = -(-length // self.mesh.size(dimension))
                start = min(each * self.mesh.get_local_rank(dimension), length)
                whole = whole.narrow(placement.dim, start, min(each, length - start))
        return whole


def sharding(parameter: Tensor) -> Sharding | None:
    """How the parameter is cut over processes; None where it is not.

    Raises:
        TypeError: a partial sum, which is no parameter's value.
    """
    if type(parameter) in (torch.nn.Parameter, Tensor) or not _is_dtensor(parameter):
        return None
    placements = tuple(parameter.placements)  # type: ignore[attr-defined]
    if any(placement.is_partial() for placement in placements):
        raise TypeError(
            f"a parameter placed as {placements} is a partial sum: redistribute it to Shard or "
            "Replicate first"
        )
    return Sharding(parameter.device_mesh, placements)  # type: ignore[attr-defined]


def local(tensor: Tensor) -> Tensor:
    """The process's own piece of a tensor, sharing its memory; the tensor itself where whole."""
    if type(tensor) in (Tensor, torch.nn.Parameter) or not _is_dtensor(tensor):
        return tensor
    with torch.no_grad():
        piece: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return piece


def placed(piece: Tensor, like: Tensor) -> Tensor:
    """A piece as the tensor that ``like`` is: on its mesh, where it is cut over one."""
    where = sharding(like)
    return piece if where is None else where.placed(piece, like.shape, like.stride())


def _is_dtensor(tensor: Tensor) -> bool:
    # Whoever has a DTensor has imported its module; `import largebatch` need not.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)
