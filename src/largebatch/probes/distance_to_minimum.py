r"""How far each weight is from its minimum, if the loss along it is a parabola.

    d = g/h        mean of abs(d) over a layer

g: gradient of the batch; h: the diagonal of its Hessian, in weights of each layer drawn at random
or in all. In units of the weight. Where h < 0 it is the distance to a maximum, and their share is
told; a weight in which the loss is linear (h = 0) has none and is left out.
Source: Gao and Zhong (CURV), Eq. 25-28, with h = 2a. Theirs is E|d| = S*sqrt(2/(pi*n))/h (corrected
by sqrt(2)) for a batch of n examples whose gradient is noise alone, with S one example's deviation
and one h for all weights: `largebatch.theory.mean_distance_to_minimum`, with S from
:func:`~largebatch.probes.gradient_size`. So abs(d) falls as 1/sqrt(n) until the gradient's mean,
which they leave out, is what remains.

The mean is made by the weights with the smallest abs(h): the median is steadier. Hutchinson's h of
all weights at once (weights=None) is mostly error in a network, and distances then too short: see
:func:`~largebatch.probes.curvature_radius`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..curvature import Method
from .diagonals import Estimate, bent, gradient_and_diagonal, statistics_of
from .gradients import LossFn, layers, trained

__all__ = ["DistanceToMinimum", "distance_to_minimum"]


@dataclass(frozen=True)
class DistanceToMinimum:
    """The distances of each layer; NaN for one without a curved weight.

    Attributes:
        layers: names of the layers.
        mean_distance: the mean of abs(g/h) over the layer's curved weights.
        median: its median over them, the lower of the two in the middle.
        straight: share of the weights looked at that have no curvature, and are left out.
        concave: share of the curved ones with h < 0, which have no minimum.
        weights: how many of each layer's were looked at.
        products: with the Hessian, that h was made of.
    """

    layers: list[str]
    mean_distance: list[float]
    median: list[float]
    straight: list[float]
    concave: list[float]
    weights: list[int]
    products: int


def distance_to_minimum(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    weights: int | None = 64,
    samples: int = 8,
    seed: int = 0,
    method: Method = "exact",
    chunk: int | None = None,
) -> DistanceToMinimum:
    """Measure the distance to their minima of weights of each layer.

    Costs two gradients over the batch and ``weights`` Hessian-vector products, or ``samples`` (by
    differences one gradient, and two for each sample).

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: tensors with the example in dimension 0.
        weights: of each layer, drawn at random, for one product a weight of every layer; None for
            all weights, by Hutchinson's estimate.
        samples: of that estimate.
        seed: names the random weights and signs.
        method: how products are made: see :func:`largebatch.curvature.hessian_products`.
        chunk: examples of a pass.

    Raises:
        ValueError: fewer than one weight or sample, drawn weights with differences.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1, bias=False)
        >>> curve = lambda x: (x * (model.weight - 3).square()).sum(1).mean()  # minimum at 3
        >>> with torch.no_grad(): _ = model.weight.fill_(1.0)
        >>> distance_to_minimum(model, curve, (torch.tensor([[1.0, 4.0]]),)).mean_distance
        [2.0]
    """
    estimate = Estimate(weights, samples, seed, method)
    found = gradient_and_diagonal(model, loss_fn, batch, estimate, chunk=chunk)
    curved = [(g[bent(h)], h[bent(h)]) for g, h in found]
    distances = [statistics_of((g / h).abs()) for g, h in curved]
    return DistanceToMinimum(
        layers(model),
        [mean for mean, _, _ in distances],
        [median for _, _, median in distances],
        [1 - len(some) / len(h) for (_, some), (_, h) in zip(curved, found, strict=True)],
        [statistics_of(h < 0)[0] for _, h in curved],
        [len(h) for _, h in found],
        estimate.products(trained(model)),
    )
