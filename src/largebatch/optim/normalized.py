r"""Rules whose step is a share of the layer's own length, whatever the length of its direction.

    w <- w - eta*s*r         s = phi(||w||) / ||r||

w: the weights of one layer, here one parameter; r: its direction, of w's shape, which the rule
makes from gradients and keeps no scale of; ||.||: Euclidean norm over the layer; phi(z) = z, or z
bounded to [low, high]; s: one number a parameter; eta: learning rate, which here has no unit: it
is the share of its length by which a layer moves. s = 1 where phi(||w||) or ||r|| is 0: a weight
that starts at zero would otherwise never move. Where ||r|| is infinite s is NaN: 0 would hide it.
Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes"
(2020), Algorithms 1 and 2. Its layers hold a weight and a bias each, ours one parameter each, as in
all public code.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ..measure import HALVES, Tensors, on_host, wide
from .base import Rule, published
from .bucket import Bucket
from .checks import Check, clip_bounds, one_of
from .layers import Layers, descend_by_layer
from .recursion import descend, learning_rate

__all__ = ["Normalized", "averaged", "full_precision"]


class Normalized(Rule):
    """Makes the step of each layer from a direction: a rule says what the direction is.

    In `state[parameter]["scale"]` is s; 1 for parameters that `exclude` leaves out.
    """

    layerwise = True
    checks: ClassVar[Mapping[str, Check]] = {
        **Rule.checks,
        "exclude": one_of("1d", "all", None),
        "clip": clip_bounds,
    }

    @abstractmethod
    def directions(self, bucket: Bucket) -> Tensors:
        """Bring the state up to date, and return r of each parameter.

        In float32, or float64 for float64 parameters. Reads no value on the host.
        """

    @abstractmethod
    def layers(self, bucket: Bucket) -> Layers | None:
        """The same a layer at a time, on a CPU; None where the bucket does not lend itself to it.

        Brings the state up to date only where it is not None, and then the caller makes every
        direction once.
        """

    def update(self, buckets: Sequence[Bucket]) -> None:
        """Step along the direction of each parameter."""
        for bucket in buckets:
            first = bucket.parameters[0]
            # Of a sharded layer no process has the norms before they are summed, for all at once.
            alone = on_host(first) and (bucket.sharding is None or bucket.excluded)
            layers = self.layers(bucket) if alone else None
            scale = torch.ones((), dtype=wide(first.dtype), device=first.device)
            if layers is None:
                scale = self._at_once(bucket, scale)
            elif bucket.excluded:
                layers.straight(float(bucket.group["lr"]))
            else:
                ratio = partial(_ratios, clip=bucket.group["clip"])
                scale = descend_by_layer(layers, float(bucket.group["lr"]), ratio)
            published([self.state[owner] for owner in bucket.owners], "scale", scale)

    def _at_once(self, bucket: Bucket, scale: Tensor) -> Tensor:
        """All parameters of the bucket, by multi-tensor operations; returns their scales."""
        directions = self.directions(bucket)
        if not bucket.excluded:
            lengths = bucket.norms("parameters"), bucket.norms(directions)
            scale = _ratios(*lengths, clip=bucket.group["clip"])
        rate = learning_rate(bucket.group, scale.device)
        descend(bucket.parameters, directions, scale * rate)
        return scale


def _ratios(weights: Tensor, directions: Tensor, *, clip: tuple[float, float] | None) -> Tensor:
    """The scales s of layers with these norms: the one place that says what they are."""
    bounded = weights if clip is None else weights.clamp(*clip)
    # A norm below the smallest normal number counts as zero: dividing by it may overflow.
    zero = torch.minimum(bounded, directions) < torch.finfo(directions.dtype).tiny
    ratios = (bounded / directions).masked_fill_(zero, 1.0)
    return ratios.masked_fill_(directions == math.inf, torch.nan)


def averaged(means: Tensors, values: Tensors, share: float) -> Tensors:
    """M <- (1 - share)*m + share*x, in place; returns it as it was before it was rounded to m's.

    It is computed in the finer precision of the two.
    """
    dtype = torch.promote_types(means[0].dtype, values[0].dtype)
    made = means if means[0].dtype == dtype else [mean.to(dtype) for mean in means]
    torch._foreach_lerp_(made, [value.to(dtype) for value in values], share)
    if made is not means:
        torch._foreach_copy_(means, made)
    return made


def full_precision(bucket: Bucket) -> bool:
    """Whether directions in the parameters' own precision are good enough to be measured."""
    return bucket.parameters[0].dtype not in HALVES
