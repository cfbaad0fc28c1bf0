"""Sharding a batch: d_1, ..., d_M, equal pieces of B = M·b examples along dimension 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from torch import Tensor

__all__ = ["split_batch"]


def split_batch(batch: tuple[Any, ...], count: int) -> Iterator[tuple[Any, ...]]:
    """Yield ``count`` equal pieces of a batch, in order, without copying.

    Args:
        batch: tensors with the example in dimension 0, or tuples, lists and mappings of them.
            What is not a tensor (a flag, None) goes to every piece as it is, unless it holds
            something for each example: that is an error.
        count: number of pieces.

    Raises:
        ValueError: if there is no tensor, tensors differ in their first dimension, or ``count``
            does not divide it.
        TypeError: an array that is not a tensor, or a list or tuple without tensors that is as
            long as the batch.

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
    for value in batch:
        _check_whole(value, size)
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


def _check_whole(value: Any, size: int) -> None:
    """Raise TypeError for what would go whole to every piece though it is the examples'."""
    if isinstance(value, Tensor | str | type):
        return
    if isinstance(value, Mapping):
        for each in value.values():
            _check_whole(each, size)
    elif isinstance(value, list | tuple):
        if len(value) == size and next(_sizes(value), None) is None:
            _refuse(value, f"of {size}, one for each example")
        for each in value:
            _check_whole(each, size)
    # An array without dimensions is one number for all.
    elif getattr(value, "shape", None if hasattr(value, "__array__") else ()) != ():
        _refuse(value, "that is no tensor")


def _refuse(value: Any, what: str) -> NoReturn:
    raise TypeError(
        f"a batch is shared out by its tensors, got a {type(value).__name__} {what}: pass "
        "tensors, or leave it out of the batch"
    )


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
