"""Hessian-vector products as central differences of gradients: for whatever can be trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..clean import CleanWeights
from .passes import LossFn, check_reached, evaluated

__all__ = ["difference", "refuse_halves"]


def difference(fn: LossFn, trained: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    """(grad L(w + e*v) - grad L(w - e*v)) / (2*e), one tensor a parameter."""
    length = _norm(vectors)
    if length == 0:
        return [torch.zeros_like(v) for v in vectors]
    share: float = max(torch.finfo(p.dtype).eps for p in trained) ** (1 / 3)
    step = share * (1 + _norm(trained)) / length
    clean, weights = CleanWeights(), [_local(p) for p in trained]
    sides = []
    for signed in (step, -step):
        with clean.moved(weights, [_local(v) * signed for v in vectors]):
            sides.append(_gradients(fn, trained))
    return [(a - b).div_(2 * step) for a, b in zip(*sides, strict=True)]


def refuse_halves(trained: Sequence[Tensor]) -> None:
    """Raise where a weight cannot be moved as little as a difference needs."""
    coarse = [p.dtype for p in trained if p.dtype in (torch.float16, torch.bfloat16)]
    if coarse:
        raise ValueError(
            f"differences of gradients need float32 or float64 parameters, got {coarse[0]}, which "
            "cannot hold weights moved so little: use method='exact', or full precision"
        )


def _gradients(fn: LossFn, trained: Sequence[Tensor]) -> list[Tensor]:
    """The gradients that `loss.backward()` leaves, with every leaf's own put back."""
    torch.clear_autocast_cache()  # its cast weights are those of before the move
    with evaluated(fn, trained) as loss:
        kept = {leaf: leaf.grad for leaf in (*trained, *_leaves(loss))}
        try:
            for leaf in kept:
                leaf.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            found = [p.grad for p in trained]
        finally:
            for leaf, gradient in kept.items():
                leaf.grad = gradient
            torch.clear_autocast_cache()
    check_reached(found)
    pairs = zip(found, trained, strict=True)
    return [torch.zeros_like(p, requires_grad=False) if g is None else g for g, p in pairs]


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """What a backward pass from the loss would leave a gradient in."""
    seen: set[Any] = set()
    queue: list[Any] = [loss.grad_fn]
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        queue.extend(next_ for next_, _ in node.next_functions)


def _local(tensor: Tensor) -> Tensor:
    """The process's piece of a sharded tensor, in the same memory; others as they are."""
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _norm(tensors: Sequence[Tensor]) -> float:
    """The length of all tensors as one vector, of sharded ones over their mesh."""
    squares = [tensor.detach().square().sum() for tensor in tensors]
    whole = [s.full_tensor() if hasattr(s, "full_tensor") else s for s in squares]
    return math.sqrt(sum(float(square) for square in whole))
