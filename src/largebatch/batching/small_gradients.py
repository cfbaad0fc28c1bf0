r"""Discard the small values of a gradient, layer by layer.

    g_j <- g_j where |g_j| is among the n - floor((1 - keep)*n) largest of its tensor, else 0

Symbols: n: elements of one parameter's gradient; keep: the share that stays.
Source: named by CURV, Section 3, among what enlarges the mean gradient, without any detail: that
the share is of each parameter's own gradient, and of the combined one, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["discard_small_gradients"]


@torch.no_grad()
def discard_small_gradients(parameters: Tensor | Iterable[Tensor], keep: float = 0.7) -> None:
    """Set all but the largest share ``keep`` of each parameter's ``p.grad`` to zero, in place.

    An option that CURV (Section 3) names without detail. Call it after ``combine`` and before
    clipping; the loss scale makes no difference. How many stay is exact: of equal magnitudes the
    earlier stay, and at least one. NaN counts as the largest, so that it shows. Parameters
    without gradient are passed over. Nothing is read on the host.

    Cost: a selection in each gradient, one after another, and memory for the largest one's order.

    Args:
        parameters: those whose gradients are meant, or one.
        keep: share that stays, above 0 and at most 1; the number dropped is rounded down.

    Raises:
        ValueError: a share out of range.
        TypeError: a gradient that is a DTensor (one shard cannot say what is large) or sparse.

    Example:
        >>> from largebatch.batching import discard_small_gradients
        >>> weight = torch.nn.Parameter(torch.zeros(5))
        >>> weight.grad = torch.tensor([0.1, -3.0, 0.2, 2.0, -0.3])
        >>> discard_small_gradients([weight], keep=0.4)
        >>> weight.grad
        tensor([ 0., -3.,  0.,  2.,  0.])
    """
    check_keep(keep)
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    gradients = [p.grad for p in given if p.grad is not None]
    # All are looked at before any is changed.
    for gradient in gradients:
        _check_whole(gradient)
    for gradient in gradients:
        keep_largest(gradient, keep)


def check_keep(keep: float) -> None:
    """Raise ValueError for a share that keeps nothing, or more than all."""
    if not 0 < keep <= 1:
        raise ValueError(f"a share to keep must be above 0 and at most 1, got keep={keep}")


def _check_whole(gradient: Tensor) -> None:
    # By name: importing torch.distributed.tensor takes longer than all of largebatch.
    if type(gradient).__name__ == "DTensor":
        raise TypeError(
            "discard_small_gradients needs whole gradients, got a DTensor: what is large in one "
            "shard need not be in the whole; use it without sharding"
        )
    if gradient.layout != torch.strided:
        raise TypeError(
            "discard_small_gradients needs dense gradients, got a sparse one: make the embedding "
            "with sparse=False"
        )


def keep_largest(gradient: Tensor, keep: float) -> None:
    """Zero all but the largest share of one gradient, in place; see above."""
    size = gradient.numel()
    # 0.29 * 100 is 28.999999999999996, and 0.07 * 100 7.000000000000001: a share of whole elements.
    dropped = size - max(1, math.ceil(keep * size * (1 - 1e-12)))
    if dropped <= 0:
        return
    sizes = gradient.abs().flatten()
    # The largest of those that go; NaN only where nothing else is left to go.
    bound = sizes.topk(dropped, largest=False, sorted=False).values.max()
    small = (sizes < bound) | (bound.isnan() & ~sizes.isnan())
    equal = (sizes == bound) | (bound.isnan() & sizes.isnan())
    from_the_end = equal.flip(0).cumsum(0).flip(0)
    small |= equal & (from_the_end <= dropped - small.sum())
    gradient.masked_fill_(small.view(gradient.shape), 0.0)
