r"""Normalized steps on a CPU: a layer at a time, a piece of it at a time within the cache.

    w <- w - eta*s*r         s = s(||w||, ||r||)

w: weights of one layer, here one parameter; r: direction; both as vectors in the order of memory.
No weight can move before the last element of r is known; so r is made and measured in pieces that
stay in the cache, and what is left is one pass over w and r. Small neighbours share the calls
that a layer costs, up to the size of the largest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..measure import Tensors, flat
from .bucket import Bucket

__all__ = ["Layers", "descend_by_layer", "flats"]

# Elements of a piece for each thread: one of weights and one of r fit a core's second-level cache.
_PIECE = 1 << 18


class Layers(ABC):
    """How a rule makes the directions of a bucket whose tensors torch's fused kernels can take.

    Attributes:
        bucket: the parameters.
        piece: how many elements are computed at once.
    """

    def __init__(self, bucket: Bucket) -> None:
        """Take the bucket; moves nothing."""
        self.bucket = bucket
        self.piece = _PIECE * torch.get_num_threads()

    @cached_property
    def weights(self) -> list[Tensor]:
        """W of each layer."""
        return flats(self.bucket.parameters)

    @cached_property
    def room(self) -> int:
        """How many elements a batch of layers holds at most."""
        return max(self.piece, *(weight.numel() for weight in self.weights))

    @abstractmethod
    def straight(self, rate: float) -> None:
        """Move all weights by `rate` times their direction, which nothing scales."""

    @abstractmethod
    def begin(self, batch: slice) -> Tensors:
        """The directions of some layers, as far as they are made a layer at a time."""

    @abstractmethod
    def finish(self, direction: Tensor, weight: Tensor, layer: int, start: int) -> None:
        """Make the piece of a layer's direction that begins at `start` what it shall be."""

    @abstractmethod
    def clear(self) -> None:
        """Forget directions that were not finite: called before others are begun."""


def descend_by_layer(
    layers: Layers, rate: float, ratio: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Move the weights of all layers, and return the scale of each.

    Args:
        layers: makes the directions.
        rate: eta.
        ratio: s, from the vectors of ||w|| and ||r||.
    """
    scales = []
    for batch in _batches([weight.numel() for weight in layers.weights], layers.room):
        weights, directions = layers.weights[batch], layers.begin(batch)
        lengths = _measured(layers, weights, directions, batch.start)
        scales.append(ratio(*lengths.unbind()))
        numbers = scales[-1].tolist()
        for weight, direction, scale in zip(weights, directions, numbers, strict=True):
            weight.add_(direction, alpha=-rate * scale)
        if not all(map(math.isfinite, numbers)):
            layers.clear()
    return torch.cat(scales) if len(scales) > 1 else scales[0]


def _measured(layers: Layers, weights: Tensors, directions: Tensors, first: int) -> Tensor:
    """Finish the directions; the norms of the weights, and below them those of the directions."""
    squares, owners = [], []
    for index, (weight, direction) in enumerate(zip(weights, directions, strict=True)):
        for start, w, r in _pieces(layers.piece, weight, direction):
            squares.append(torch.dot(w, w))  # first: nothing reads faster from memory
            layers.finish(r, w, first + index, start)
            squares.append(torch.dot(r, r))
            owners.append(index)
    sums = [[0.0] * len(weights), [0.0] * len(weights)]
    values = torch.stack(squares).tolist()
    for index, weight, direction in zip(owners, values[::2], values[1::2], strict=True):
        sums[0][index] += weight
        sums[1][index] += direction
    return torch.tensor(sums, dtype=squares[0].dtype, device=squares[0].device).sqrt_()


def flats(tensors: Tensors) -> list[Tensor]:
    """Each tensor's elements in the order of memory, where they lie side by side."""
    return [vector for vector in map(flat, tensors) if vector is not None]


def _pieces(most: int, weight: Tensor, direction: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The pieces of two vectors that belong together, and where they begin."""
    if weight.numel() <= most:
        yield 0, weight, direction
        return
    for start in range(0, weight.numel(), most):
        yield start, weight[start : start + most], direction[start : start + most]


def _batches(sizes: Sequence[int], most: int) -> list[slice]:
    """Neighbours that hold at most `most` elements together; a larger one alone."""
    found, start, held = [], 0, 0
    for index, size in enumerate(sizes):
        if index > start and held + size > most:
            found.append(slice(start, index))
            start, held = index, 0
        held += size
    return [*found, slice(start, len(sizes))]
