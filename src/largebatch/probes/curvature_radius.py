r"""The radius of curvature of the loss along each weight, and its spread over a layer.

    R = (1 + g^2)^(3/2) / (|h| + delta)

g: gradient of the batch; h: the diagonal of its Hessian, in weights of each layer drawn at random
or in all; delta: damping. A weight in which the loss is linear (h = 0, as where a ReLU is never on)
has an infinite radius: without damping it is left out, and its share is told.
Source: Gao and Zhong (CURV), Eq. 9 and Fig. 2, without delta.

R is large where h is near 0, so that its mean is made by the few straightest weights: the median is
what can be compared. With Hutchinson's h of all weights at once (weights=None) abs(h) is mostly the
estimate's error, and R too small: on a small network for digits the median radius of the first
layer was a tenth of what it is with 8 samples, and three quarters with 512. Drawn weights hardly
have that error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..curvature import Method
from .diagonals import Estimate, bent, gradient_and_diagonal, statistics_of
from .gradients import LossFn, layers, trained

__all__ = ["CurvatureRadius", "curvature_radius"]


@dataclass(frozen=True)
class CurvatureRadius:
    """Statistics of R over each layer; NaN for one without a curved weight.

    Attributes:
        layers: names of the layers.
        mean_radius: over the layer's curved weights.
        spread: standard deviation over them.
        median: over them, the lower of the two in the middle.
        straight: share of the weights looked at that have no curvature, and are left out.
        weights: how many of each layer's were looked at.
        products: with the Hessian, that h was made of.
    """

    layers: list[str]
    mean_radius: list[float]
    spread: list[float]
    median: list[float]
    straight: list[float]
    weights: list[int]
    products: int


def curvature_radius(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    weights: int | None = 64,
    samples: int = 8,
    damping: float = 0.0,
    seed: int = 0,
    method: Method = "exact",
    chunk: int | None = None,
) -> CurvatureRadius:
    """Measure the curvature radius along weights of each layer.

    Costs two gradients over the batch and ``weights`` Hessian-vector products, or ``samples`` (by
    differences one gradient, and two for each sample).

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: tensors with the example in dimension 0.
        weights: of each layer, drawn at random, for one product a weight of every layer; None for
            all weights, by Hutchinson's estimate.
        samples: of that estimate.
        damping: delta, 0 or more; above 0 no weight is left out.
        seed: names the random weights and signs.
        method: how products are made: see :func:`largebatch.curvature.hessian_products`.
        chunk: examples of a pass.

    Raises:
        ValueError: a negative damping, fewer than one weight or sample, drawn weights with
            differences.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1, bias=False)
        >>> curve = lambda x: (x * model.weight.square()).sum(1).mean()  # h = 2*x, here diagonal
        >>> with torch.no_grad(): _ = model.weight.zero_()
        >>> curvature_radius(model, curve, (torch.tensor([[1.0, 4.0]]),)).mean_radius
        [0.3125]
    """
    if not damping >= 0:
        raise ValueError(f"curvature_radius needs a damping of 0 or more, got damping={damping}")
    estimate = Estimate(weights, samples, seed, method)
    found = gradient_and_diagonal(model, loss_fn, batch, estimate, chunk=chunk)
    radii = [_radii(g, h, damping) for g, h in found]
    mean, spread, median = zip(*(statistics_of(r) for r, _ in radii), strict=True)
    return CurvatureRadius(
        layers(model),
        list(mean),
        list(spread),
        list(median),
        [share for _, share in radii],
        [len(h) for _, h in found],
        estimate.products(trained(model)),
    )


def _radii(g: Tensor, h: Tensor, damping: float) -> tuple[Tensor, float]:
    """R of the weights that have one, and the share of those that have none."""
    curved = bent(h) | (damping > 0)
    radii = (1 + g[curved].square()) ** 1.5 / (h[curved].abs() + damping)
    return radii, 1 - float(curved.double().mean())
