r"""How well a large batch's gradient points where the whole data's does.

    cos(F, g) = F.g / (||F||*||g||)

F: gradient over the full data, without augmentation and noise; g: the large batch's gradient, as
the method made it (noised and augmented). In [-1, 1]; per layer and over all of them.
Source: Haruki et al. (GNC), Section 3.1 and Fig. 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .gradients import LossFn, gradient, layers
from .untouched import untouched

__all__ = ["GradientCosine", "cosine_between", "gradient_cosine"]


@dataclass(frozen=True)
class GradientCosine:
    """Cosines between two gradients; NaN where one of them is zero.

    Attributes:
        cosine: over all layers together.
        layers: names of the layers.
        layer_cosines: of each.
    """

    cosine: float
    layers: list[str]
    layer_cosines: list[float]


def gradient_cosine(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    large: Sequence[Tensor],
    *,
    chunk: int | None = None,
) -> GradientCosine:
    """Compare ``large`` with the gradient of ``batch``, the full data, at the present weights.

    Costs one gradient over the full data.

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: the full data.
        large: the large batch's gradient: a tensor for each parameter in training.
        chunk: examples of a forward pass.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> x = torch.eye(2)
        >>> round(gradient_cosine(model, lambda x: model(x).mean(), (x,), [x[:1]]).cosine, 3)
        0.707
    """
    with untouched(model):
        full = gradient(model, loss_fn, batch, chunk=chunk)
    return cosine_between(layers(model), full, large)


@torch.no_grad()
def cosine_between(
    names: Sequence[str], first: Sequence[Tensor], second: Sequence[Tensor]
) -> GradientCosine:
    """The cosines between two gradients, tensor by tensor and over all."""
    shapes = [[tuple(each.shape) for each in one] for one in (first, second)]
    if shapes[0] != shapes[1] or len(names) != len(first):
        raise ValueError(
            f"a cosine needs two gradients of the same layers, got shapes {shapes[0][:8]} and "
            f"{shapes[1][:8]} for {len(names)} names"
        )
    products = [_products(a, b) for a, b in zip(first, second, strict=True)]
    cosines = [float(p[0] / (p[1] * p[2]).sqrt()) for p in products]
    dot, one, other = torch.stack(products).sum(0)
    return GradientCosine(float(dot / (one * other).sqrt()), list(names), cosines)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Sums of a*b, a*a and b*b, on the host. Of halves the squares of small gradients are zero."""
    a, b = first.double(), second.double()
    return torch.stack([(a * b).sum(), (a * a).sum(), (b * b).sum()]).cpu()
