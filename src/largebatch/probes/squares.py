r"""Sums of squares of many gradients, parameter by parameter, while they pass by.

    sum_i weight_i * factor_i^2 * ||g_i||^2        for each parameter

One read of each gradient, at the speed of :mod:`largebatch.measure`; squares are taken in the
gradient's precision (of halves in float32) and added up in float64. Nothing is read on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..measure import norms
from ..mesh import local

__all__ = ["SquareSums", "squares"]

_Number = float | Tensor


def squares(gradients: Sequence[Tensor | None], where: torch.device) -> Tensor:
    """||g||^2 of each, in one float64 vector on ``where``; None has 0.

    Example:
        >>> squares([torch.tensor([3.0, 4.0]), None], torch.device("cpu"))
        tensor([25.,  0.], dtype=torch.float64)
    """
    kinds: dict[object, list[int]] = {}
    for place, gradient in enumerate(gradients):
        if gradient is not None:
            kinds.setdefault((gradient.device, gradient.dtype), []).append(place)
    found = [torch.zeros((), dtype=torch.float64, device=where)] * len(gradients)
    for places in kinds.values():
        pieces = [local(g) for at in places if (g := gradients[at]) is not None]
        vector = norms(pieces).to(where, torch.float64).square_()
        if len(places) == len(gradients):
            return vector
        # Not by index: a list of places would have to be copied to an accelerator, which waits.
        for place, each in zip(places, vector.unbind(), strict=True):
            found[place] = each
    return torch.stack(found)


class SquareSums:
    """What was added up of one step's gradients; pieces may come in any order.

    Example:
        >>> a, b = torch.zeros(2), torch.zeros(1)
        >>> sums = SquareSums()
        >>> sums.add([b], [torch.tensor([2.0])], 1.0)
        >>> sums.add([a, b], [torch.tensor([3.0, 4.0]), None], 10.0)
        >>> sums.of([a, b])
        tensor([250.,   4.], dtype=torch.float64)
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._sums: dict[tuple[int, ...], Tensor] = {}

    def add(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], times: _Number
    ) -> None:
        """Add ``times`` the squares of some parameters' gradients."""
        key = tuple(map(id, parameters))
        vector = squares(gradients, parameters[0].device).mul_(times)
        self._sums[key] = vector if key not in self._sums else self._sums[key].add_(vector)

    def of(self, parameters: Sequence[Tensor]) -> Tensor:
        """The sums of these parameters, in one vector; 0 of those that were not seen."""
        key = tuple(map(id, parameters))
        where = parameters[0].device
        if set(self._sums) == {key}:
            return self._sums[key].clone()
        zero = torch.zeros((), dtype=torch.float64, device=where)
        known: dict[int, Tensor] = {}
        for ids, vector in self._sums.items():
            for each, total in zip(ids, vector.unbind(), strict=True):
                known[each] = known.get(each, zero) + total.to(where)
        return torch.stack([known.get(each, zero) for each in key])
