r"""A batch's gradient and its Hessian's diagonal at one point, the batch in chunks.

    g = sum_c share_c g_c       h = sum_c share_c z*(H_c z), mean over z        c: chunks

With the same signs z for every chunk, so that what is estimated does not depend on the chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..curvature import Method, hutchinson_diagonal
from .gradients import LossFn, chunks, gradient, trained
from .untouched import untouched

__all__ = ["bent", "gradient_and_diagonal", "statistics_of"]


def gradient_and_diagonal(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    samples: int,
    seed: int,
    method: Method,
    chunk: int | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Both, a tensor of each parameter's shape, h as an estimate; float32 for half precision.

    Costs a gradient, and the loss with a graph for two derivatives and ``samples`` products with
    the Hessian (or with differences two gradients each), all over the batch.
    """
    parameters = trained(model)
    with untouched(model):
        slopes = gradient(model, loss_fn, batch, chunk=chunk)
    total: list[Tensor] = []
    for piece in chunks(batch, chunk):
        with untouched(model):
            found = hutchinson_diagonal(
                _at(loss_fn, piece), parameters, samples=samples, seed=seed, method=method
            )
        share = len(piece[0]) / len(batch[0])
        total = total or [torch.zeros_like(each) for each in found]
        for sum_, each in zip(total, found, strict=True):
            sum_.add_(each, alpha=share)
    return [g.to(h.dtype) for g, h in zip(slopes, total, strict=True)], total


def _at(loss_fn: LossFn, piece: Sequence[Any]) -> Any:
    return lambda: loss_fn(*piece)


def bent(h: Tensor) -> Tensor:
    """Where there is a curvature at all: a mask. What a ReLU never lets through has none."""
    # Not h != 0 alone: below the smallest normal number a quotient by it overflows.
    return ~(h.abs() < torch.finfo(h.dtype).tiny)


def statistics_of(values: Tensor) -> tuple[float, float, float]:
    """Mean, standard deviation and median (the lower of the two in the middle); NaN of nothing."""
    if not values.numel():
        return math.nan, math.nan, math.nan
    wide = values.double()
    return float(wide.mean()), float(wide.std(correction=0)), float(wide.median())
