r"""MCLR: a rate for each layer from the medians of its weights and of its gradient.

    s = |m(w) / (m(g) + lambda*m(w))|,  clipped to `bounds`
    u <- beta*u + s*(g + lambda*w)      w <- w - eta*u

w: the weights of one layer, here one parameter; g: its combined gradient; m: median over its
elements, the lower of the two in the middle, or with `magnitudes` that of |w| and of |g|; lambda:
weight decay; s: one number a parameter; eta: learning rate, the document's gamma. s = 1 where a
median is 0 (also of what has no elements): a weight that starts at zero would never move.
Source: CURV (Gao and Zhong 2020), Eq. 20-22, without bounds.

s is meant as the median of the curvature radius R_i = |w_i / g_i| (Eq. 17), as PercentDelta's is
its harmonic mean and LARS's its root mean square weighted by g^2. It is no statistic of R_i at
all: it does not see which gradient belongs to which weight. Known failures: signed medians lie
near zero, and the quotient of two such numbers has heavy tails, so that now and then a step is as
long as `bounds` let it be (`magnitudes` cures it); large batches have small gradients, and
for them the document itself does not recommend it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..measure import Tensors, wide
from .bucket import Bucket
from .checks import Check, bounds, one_of
from .engine import Form, ScaledMomentum

__all__ = ["MCLR"]


class MCLR(ScaledMomentum):
    """Momentum on gradients scaled, layer by layer, by a quotient of medians.

    A median costs far more than a norm: on a CPU a step takes as long as 5 to 20 of momentum SGD,
    which beside a gradient is still a percent or so.

    Args:
        params: parameters, named parameters or groups of them.
        lr: learning rate eta, the share of the median weight that the median gradient moves it
            by; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda, in the denominator and in the update.
        magnitudes: medians of magnitudes in place of those of w and g; False is the document's.
        bounds: the least and the largest s; the document has none.
        exclude: None scales and decays all parameters, as the document does; "1d" leaves those of
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
        >>> weights = torch.nn.Parameter(torch.tensor([1.0, -6.0, 2.0]))
        >>> optimizer = MCLR([weights], lr=0.1)
        >>> (weights * torch.tensor([3.0, 4.0, 5.0])).sum().backward()
        >>> optimizer.step()
        >>> optimizer.state[weights]["scale"]  # 1 / 4; with magnitudes 2 / 4
        tensor(0.2500)
        >>> weights.data
        tensor([ 0.9250, -6.1000,  1.8750])
    """

    layerwise = True
    checks: ClassVar[Mapping[str, Check]] = {
        **ScaledMomentum.checks,
        "magnitudes": one_of(True, False),
        "bounds": bounds,
        "exclude": one_of("1d", "all", None),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.003,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        magnitudes: bool = False,
        bounds: tuple[float, float] = (1e-3, 100.0),
        exclude: Literal["1d", "all"] | None = None,
        form: Form = "gradient",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form}
        median = {"magnitudes": magnitudes, "bounds": bounds, "exclude": exclude}
        how = {"foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        super().__init__(params, {**options, **median, "maximize": maximize, **how})

    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensor]:
        """Return the clipped quotient of medians of each parameter."""
        return [_quotients(bucket) for bucket in buckets]


def _quotients(bucket: Bucket) -> Tensor:
    """The scale of each parameter of the bucket, in one vector."""
    group = bucket.group
    weights = _medians(bucket, bucket.parameters)
    gradients = _medians(bucket, bucket.gradients)
    denominators = gradients + bucket.weight_decay * weights
    # What is below the smallest normal number counts as zero: 0/0 where it is flushed to zero.
    tiny = torch.finfo(weights.dtype).tiny
    zero = torch.minimum(weights.abs(), gradients.abs()) < tiny
    radii = (weights / denominators).abs()  # infinite where they cancel: clipped
    return radii.clamp(*group["bounds"]).masked_fill(zero, 1.0)


def _medians(bucket: Bucket, tensors: Tensors) -> Tensor:
    """The median of each whole tensor, or of its magnitudes, in one vector; 0 of no elements."""
    magnitudes = bucket.group["magnitudes"]
    found = []
    for tensor in bucket.whole(tensors):
        values = tensor.abs() if magnitudes else tensor
        found.append(values.median() if values.numel() else values.new_zeros(()))
    return torch.stack(found).to(wide(found[0].dtype))
