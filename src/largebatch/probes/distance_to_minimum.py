r"""How far each weight is from its minimum, if the loss along it is a parabola.

    d = g/h        mean of abs(d) over a layer

g: gradient of the batch; h: the diagonal of its Hessian, by Hutchinson's estimate. In units of the
weight. Where h < 0 it is the distance to a maximum, and their share is told; a weight in which the
loss is linear (h = 0) has none and is left out.
Source: Gao and Zhong (CURV), Eq. 25-28, with h = 2a. Theirs is E|d| = S*sqrt(2/(pi*n))/h (corrected
by sqrt(2)) for a batch of n examples whose gradient is noise alone, with S one example's deviation
and one h for all weights: `largebatch.theory.mean_distance_to_minimum`, with S from
:func:`~largebatch.probes.gradient_size`. So abs(d) falls as 1/sqrt(n) until the gradient's mean,
which they leave out, is what remains.

The mean is made by the weights with the smallest h, where the estimate errs most: the median is
steadier. More samples and larger batches are against the errors; without any is h where the Hessian
is diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..curvature import Method
from .diagonals import bent, gradient_and_diagonal, statistics_of
from .gradients import LossFn, layers

__all__ = ["DistanceToMinimum", "distance_to_minimum"]


@dataclass(frozen=True)
class DistanceToMinimum:
    """The distances of each layer; NaN for one without a curved weight.

    Attributes:
        layers: names of the layers.
        mean_distance: the mean of abs(g/h) over the layer's curved weights.
        median: its median over them, the lower of the two in the middle.
        straight: share of the layer's weights that have no curvature, and are left out.
        concave: share of the curved weights with h < 0, which have no minimum.
        samples: Hutchinson's, that h is the mean of.
    """

    layers: list[str]
    mean_distance: list[float]
    median: list[float]
    straight: list[float]
    concave: list[float]
    samples: int


def distance_to_minimum(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    samples: int = 8,
    seed: int = 0,
    method: Method = "exact",
    chunk: int | None = None,
) -> DistanceToMinimum:
    """Measure each weight's distance to its minimum, and tell of each layer's.

    Costs two gradients over the batch and ``samples`` Hessian-vector products (with differences one
    gradient, and two for each sample).

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: tensors with the example in dimension 0.
        samples: of Hutchinson's estimate.
        seed: names the estimate's random signs.
        method: how products are made: see :func:`largebatch.curvature.hessian_products`.
        chunk: examples of a pass.

    Raises:
        ValueError: fewer than one sample.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1, bias=False)
        >>> curve = lambda x: (x * (model.weight - 3).square()).sum(1).mean()  # minimum at 3
        >>> with torch.no_grad(): _ = model.weight.fill_(1.0)
        >>> distance_to_minimum(model, curve, (torch.tensor([[1.0, 4.0]]),)).mean_distance
        [2.0]
    """
    found = gradient_and_diagonal(
        model, loss_fn, batch, samples=samples, seed=seed, method=method, chunk=chunk
    )
    means, medians, straight, concave = [], [], [], []
    for g, h in zip(*found, strict=True):
        curved = bent(h)
        mean, _, median = statistics_of((g[curved] / h[curved]).abs())
        means.append(mean)
        medians.append(median)
        straight.append(1 - float(curved.double().mean()))
        concave.append(statistics_of(h[curved] < 0)[0])
    return DistanceToMinimum(layers(model), means, medians, straight, concave, samples)
