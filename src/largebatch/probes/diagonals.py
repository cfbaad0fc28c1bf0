r"""A batch's gradient and its Hessian's diagonal at one point, in some weights or in all.

    drawn    h_i = (H e_i)_i                        a product for each of some weights i of a layer
    all      h = mean over z of z*(H z),  z = -1 or 1 in every weight        Hutchinson's

The second errs in weight i with the variance sum over j != i of H_ij^2 a sample: in a network that
is more than h_i itself for hundreds of samples, and what is made of 1/h shows the error. So the
statistics of a layer are taken from weights drawn at random, without replacement, whose h has no
error. Chunks of a batch see the same weights and z, so that h does not depend on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..curvature import LossFn as Loss
from ..curvature import Method, diagonal_at, hutchinson_diagonal
from ..measure import wide
from ..seeding import generator
from .gradients import LossFn, chunks, gradient, trained
from .untouched import untouched

__all__ = ["Estimate", "bent", "gradient_and_diagonal", "statistics_of"]

# Keeps these draws apart from others that are named by as many integers.
_PLACES = 0xD1A6


@dataclass(frozen=True)
class Estimate:
    """How a diagonal is estimated.

    Attributes:
        weights: how many of each layer are drawn at random; None for all.
        samples: products that Hutchinson's of all is the mean of; not used for drawn ones.
        seed: names the random numbers.
        method: how products are made: see :func:`largebatch.curvature.hessian_products`.

    Raises:
        ValueError: no weights, or drawn ones with another method than "exact".
    """

    weights: int | None
    samples: int
    seed: int
    method: Method

    def __post_init__(self) -> None:
        """Check the weights; the samples are Hutchinson's to check."""
        if self.weights is not None and self.weights < 1:
            raise ValueError(
                f"a diagonal needs at least one of each layer's weights, got "
                f"weights={self.weights}: give None for all"
            )
        if self.weights is not None and self.method != "exact":
            raise ValueError(
                f"drawn weights have exact products, got method={self.method!r}: give "
                "weights=None, or use 'exact'"
            )

    def products(self, parameters: Sequence[Tensor]) -> int:
        """How many products with the Hessian it takes."""
        if self.weights is None:
            return self.samples
        return sum(min(self.weights, p.numel()) for p in parameters)


def gradient_and_diagonal(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    estimate: Estimate,
    *,
    chunk: int | None,
) -> list[tuple[Tensor, Tensor]]:
    """Of each layer g and h, one number a weight that was looked at; float32 for half precision.

    Costs a gradient over the batch, the loss with a graph for two derivatives, and the products.
    """
    parameters = trained(model)
    with untouched(model):
        slopes = gradient(model, loss_fn, batch, chunk=chunk)
    places = [_drawn(p, estimate, layer) for layer, p in enumerate(parameters)]
    totals = [
        torch.zeros(len(at), dtype=wide(p.dtype), device=p.device)
        for p, at in zip(parameters, places, strict=True)
    ]
    for piece in chunks(batch, chunk):
        with untouched(model):
            found = _diagonal(_at(loss_fn, piece), parameters, places, estimate)
        for sum_, each in zip(totals, found, strict=True):
            sum_.add_(each, alpha=len(piece[0]) / len(batch[0]))
    return [
        (g.flatten()[at].to(h.dtype), h) for g, at, h in zip(slopes, places, totals, strict=True)
    ]


def _drawn(parameter: Tensor, estimate: Estimate, layer: int) -> Tensor:
    """The numbers of the weights of a layer that are looked at."""
    if estimate.weights is None:
        return torch.arange(parameter.numel(), device=parameter.device)
    source = generator("cpu", estimate.seed, _PLACES, layer)
    drawn = torch.randperm(parameter.numel(), generator=source)[: estimate.weights]
    return drawn.to(parameter.device)


def _diagonal(
    loss: Loss, parameters: Sequence[Tensor], places: Sequence[Tensor], estimate: Estimate
) -> list[Tensor]:
    """The h of each layer's places."""
    if estimate.weights is None:
        options = {"samples": estimate.samples, "seed": estimate.seed}
        whole = hutchinson_diagonal(loss, parameters, **options, method=estimate.method)
        return [h.flatten() for h in whole]
    return diagonal_at(loss, parameters, places)


def _at(loss_fn: LossFn, piece: Sequence[Any]) -> Loss:
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
