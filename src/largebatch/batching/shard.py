"""Sharding a batch: d_1, ..., d_M, equal pieces of B = M·b examples along dimension 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

__all__ = ["split_batch"]


def split_batch(batch: tuple[Any, ...], count: int) -> Iterator[tuple[Any, ...]]:
    """Yield ``count`` equal pieces of a batch, in order, without copying.

    Args:
        batch: tensors with the example in dimension 0, or tuples, lists and mappings of them.
            What is not a tensor (a flag, None) goes to every piece as it is.
        count: number of pieces.

    Raises:
        ValueError: if there is no tensor, tensors differ in their first dimension, or ``count``
            does not divide it.

    Example:
        >>> import torch
        >>> [x.tolist() for (x,) in split_batch((torch.arange(4),), 2)]
        [[0, 1], [2, 3]]
    """
    sizes = set(_sizes(batch))
    if len(sizes) != 1:
        found = f"first dimensions {sorted(sizes)}" if sizes else "no tensor"
        raise ValueError(
            f"a batch needs tensors that agree in their first dimension, got {found}: pass the "
            "inputs and targets of the same examples"
        )
    (size,) = sizes
    if size % count or not size:
        raise ValueError(
            f"count={count} workers cannot share a batch of {size}: choose a divisor, or "
            "drop_last=True"
        )
    share = size // count
    for i in range(count):
        piece = _take(batch, i * share, share)
        assert isinstance(piece, tuple)
        yield piece


def _sizes(value: Any) -> Iterator[int]:
    if isinstance(value, Tensor):
        if value.ndim == 0:
            raise ValueError("a batch holds a tensor without dimensions: nothing to share out")
        yield value.shape[0]
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _sizes(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _sizes(each)


def _take(value: Any, start: int, length: int) -> Any:
    if isinstance(value, Tensor):
        return value.narrow(0, start, length)
    if isinstance(value, Mapping):
        return {k: _take(v, start, length) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_take(v, start, length) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(_take(v, start, length) for v in value)
    return value
