r"""PercentDelta: every layer's weights change by the same share of themselves.

    s = n / sum_i |g_i / w_i|  =  n / sum_i (1/R_i),        R_i = |w_i / g_i|
    u <- beta*u + s*(g + lambda*w)                          w <- w - eta*u

w: the weights of one layer, here one parameter, of n elements; g: its combined gradient; R_i: the
cheap curvature radius of an element (CURV, Eq. 17), of which s is exactly the harmonic mean; s: one
number a parameter. eta: learning rate, which without momentum and decay is the mean of |dw_i/w_i|
over the layer. lambda: weight decay, in the update alone. |w_i| counts as 1e-6 where it is less.
s = 1 where n or the sum is 0. A sum that is not finite gives NaN: the gradient is broken.
Source: Abu-El-Haija, "Proportionate gradient updates with PercentDelta" (2017), as CURV (Gao and
Zhong 2020) has it in Eq. 24. No document mentions leaving parameters out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..measure import HALVES, in_pieces, on_host, wide
from .bucket import Bucket
from .checks import Check, one_of
from .engine import Form, ScaledMomentum

__all__ = ["PercentDelta"]

_LEAST_WEIGHT = 1e-6
# Elements computed at once on a CPU: three such pieces stay in a core's cache.
_PIECE = 1 << 16


class PercentDelta(ScaledMomentum):
    """Momentum on gradients scaled so that each layer moves by the same share of its weights.

    The mean is harmonic: elements near zero, whose share would be large, make s small. A layer
    that starts at zero moves by 1e-6 of the rate at first.

    Args:
        params: parameters, named parameters or groups of them.
        lr: learning rate eta, the mean share of change of a step; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda; it does not enter the scale.
        exclude: None scales and decays all parameters, as the documents do; "1d" leaves those of
            at most one dimension out of both; "all", for a group: never scaled.
        form: "gradient", "velocity" or "buffer"; see
            :class:`~largebatch.optim.ScaledMomentum`.
        maximize: ascend instead.
        foreach: None and True update all tensors of a dtype at once, False one at a time.
        fused: None uses torch's fused kernel where it can (on a CPU), True demands a CPU, False
            never uses it.
        state_dtype: precision of the momentum, such as torch.float32 for bfloat16 parameters;
            None for each parameter's own.

    Raises:
        ValueError: an option has a value it cannot have.
        TypeError: on a step with a sparse gradient.

    Example:
        >>> weights = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = PercentDelta([weights], lr=0.1)
        >>> (weights * torch.tensor([3.0, 2.0])).sum().backward()
        >>> optimizer.step()
        >>> optimizer.state[weights]["scale"]  # 2 / (3/1 + 2/2)
        tensor(0.5000)
        >>> weights.data  # changed by 15% and 5%
        tensor([0.8500, 1.9000])
    """

    layerwise = True
    checks: ClassVar[Mapping[str, Check]] = {
        **ScaledMomentum.checks,
        "exclude": one_of("1d", "all", None),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        exclude: Literal["1d", "all"] | None = None,
        form: Form = "gradient",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form}
        how = {"foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        super().__init__(params, {**options, "exclude": exclude, "maximize": maximize, **how})

    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensor]:
        """Return the harmonic mean of |w/g| of each parameter."""
        return [_harmonic_means(bucket) for bucket in buckets]


def _harmonic_means(bucket: Bucket) -> Tensor:
    """The scale of each parameter of the bucket, in one vector."""
    sums = bucket.total(_sums_of_shares(bucket))
    shares = torch.stack(list(torch._foreach_div(list(sums.unbind()), bucket.sizes)))
    # Below the smallest normal number the inverse may be infinite.
    zero = shares < torch.finfo(sums.dtype).tiny
    empty = sums == 0
    broken = sums.isinf()  # 0 would hide it
    return shares.reciprocal().masked_fill(broken, torch.nan).masked_fill(zero | empty, 1.0)


def _sums_of_shares(bucket: Bucket) -> Tensor:
    """Sum of |g/w| over each local piece, in one vector."""
    if on_host(bucket.parameters[0]):
        pairs = zip(bucket.gradients, bucket.parameters, strict=True)
        return torch.stack([_sum_of_shares(g, w) for g, w in pairs])
    weights = bucket.parameters
    if weights[0].dtype in HALVES:
        weights = [w.float() for w in weights]
    shares = torch._foreach_abs(weights)
    torch._foreach_clamp_min_(shares, _LEAST_WEIGHT)
    shares = torch._foreach_div(bucket.gradients, shares)
    return torch.stack(list(torch._foreach_norm(shares, 1)))


def _sum_of_shares(gradient: Tensor, weight: Tensor) -> Tensor:
    """The same for one tensor on a CPU, of which only a piece is computed at a time."""
    # Nor at once as a norm: torch's on a CPU is off by 0.4% for two million elements.
    sums = [
        torch.div(g, w.to(wide(w.dtype)).abs().clamp_min_(_LEAST_WEIGHT)).abs_().sum()
        for g, w in in_pieces((gradient, weight), _PIECE)
    ]
    return torch.stack(sums).sum()
