r"""The one update rule with a scale and momentum that the methods of this package share.

    d = s(w, g) * (g + lambda*w)     u <- beta*u + d        w <- w - eta*u     gradient form
                                     u <- beta*u + eta*d    w <- w - u         velocity form
    h = g + lambda*w                 u <- beta*u + h        w <- w - eta*s*u   buffer form

w: weights; g: the combined gradient; u: momentum, zero at first; d: direction, all of the
parameter's shape. s: scale, a number or of the parameter's shape: what a method is made of. eta:
learning rate `lr`; beta: `momentum`; lambda: `weight_decay`. The forms differ when eta or s
changes. Under `nesterov` d + beta*u (eta*d + beta*u; s*(h + beta*u)) takes u's place in the step
of w. Sources: the gradient form is that of torch.optim.SGD and of SNGM (Zhao et al. 2024, Eq.
7-8); the velocity form that of LARS (You et al. 2017, Alg. 1) and of GNC (Haruki et al. 2019, App.
A.3); the buffer form that of the code which SNGM's comparison links, and of CLARS's authors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..measure import Tensors, wide
from .base import Rule, published
from .bucket import Bucket
from .checks import Check, fraction, one_of
from .recursion import Form, advance, coefficients, descend, learning_rate

__all__ = ["Form", "ScaledMomentum"]


class ScaledMomentum(Rule):
    """Momentum on scaled gradients: a method gives the scales, this class does the rest.

    A method says whether it is `layerwise`, extends `checks` by its own options and writes
    `scales`. In `state[parameter]` are "scale", what the parameter was last scaled by, and, with
    momentum, "momentum_buffer" and "momentum_scale", whose product is u: so the scale costs no
    pass over memory.

    Attributes:
        directionless: whether a scale may be 0: then the gradient is left out, momentum goes on.

    Example:
        >>> class Doubled(ScaledMomentum):
        ...     layerwise = False
        ...     def scales(self, buckets):
        ...         return [torch.tensor(2.0) for _ in buckets]
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> weight.grad = torch.tensor([0.25])
        >>> options = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "form": "gradient"}
        >>> Doubled([weight], options).step()
        >>> weight.data
        tensor([0.5000])
    """

    directionless: ClassVar[bool] = False
    buffers: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    checks: ClassVar[Mapping[str, Check]] = {
        **Rule.checks,
        "momentum": fraction,
        "form": one_of("gradient", "velocity", "buffer"),
    }

    @abstractmethod
    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensor | Tensors]:
        """Return the scale of each parameter of each bucket.

        Args:
            buckets: all parameters of all groups that have a gradient and are not excluded.

        Returns:
            For each bucket, on its device and in float32 (float64 for float64 parameters): a
            0-dim tensor for all its parameters, a vector with one element a parameter, or a list
            of tensors of the parameters' shapes, temporaries that will be overwritten.
        """

    def update(self, buckets: Sequence[Bucket]) -> None:
        """Scale, add to the momentum, and step, for every bucket."""
        scaled = [b for b in buckets if not b.excluded]
        scales = dict(zip(map(id, scaled), self.scales(scaled), strict=True))
        for bucket in buckets:
            scale = scales.get(id(bucket), _one(bucket))
            if isinstance(scale, Tensor):
                self._advance(bucket, scale)
                published([self.state[owner] for owner in bucket.owners], "scale", scale)
            elif bucket.group["form"] == "buffer" and bucket.group["momentum"]:
                self._advance_buffer(bucket, scale)
            else:
                self._advance(_multiplied(bucket, scale), _one(bucket))

    def _advance(self, bucket: Bucket, scale: Tensor) -> None:
        """One step with one scale a parameter, or one for all."""
        states = [self.state[owner] for owner in bucket.owners]
        before, momenta, plain = torch.ones_like(scale), None, False
        if bucket.group["momentum"]:
            before = _units(states, scale)
            momenta = self.buffer(bucket, "momentum_buffer")
            plain = momenta[0].dtype == torch.float16
        numbers = coefficients(
            bucket.group, scale, before, may_vanish=self.directionless, plain=plain
        )
        advance(bucket, momenta, numbers)
        if momenta is not None:
            published(states, "momentum_scale", numbers.unit)

    def _advance_buffer(self, bucket: Bucket, scales: Tensors) -> None:
        """One step in buffer form with scales of the parameters' shapes, which are used up."""
        momenta = self.buffer(bucket, "momentum_buffer")
        torch._foreach_mul_(momenta, bucket.group["momentum"])
        torch._foreach_add_(momenta, bucket.decayed())
        torch._foreach_mul_(scales, momenta)
        one = _one(bucket)
        descend(bucket.parameters, scales, one * learning_rate(bucket.group, one.device))


def _one(bucket: Bucket) -> Tensor:
    first = bucket.parameters[0]
    return torch.ones((), dtype=wide(first.dtype), device=first.device)


def _multiplied(bucket: Bucket, scales: Tensors) -> Bucket:
    """The bucket with s*h for a gradient, for element-wise scales."""
    torch._foreach_mul_(scales, bucket.decayed())
    return replace(bucket, weight_decay=0.0, gradients=scales)


def _units(states: Sequence[dict[str, Any]], like: Tensor) -> Tensor:
    """The unit of each parameter's momentum, in one vector."""
    zero = torch.zeros((), dtype=like.dtype, device=like.device)
    one = torch.ones_like(zero)
    # Momentum without a unit is u itself: as torch.optim.SGD keeps it.
    known = (
        state.get("momentum_scale", one if "momentum_buffer" in state else zero) for state in states
    )
    return torch.stack(list(known))
