r"""SNGM: stochastic normalized gradient descent with momentum.

    s = 1 / ||g + lambda*w||        u <- beta*u + s*(g + lambda*w)        w <- w - eta*u

w: all weights of all groups as one vector; g: the combined gradient; ||.||: Euclidean norm over
all of it; u: momentum, zero at first, never longer than 1/(1 - beta); s: one number. eta: learning
rate, which here is a length: without momentum a step has exactly length eta. Where the norm or
||g|| is 0, s is 0: there is no direction (weight decay alone is none) and momentum goes on.
Source: Zhao et al., "Stochastic normalized gradient descent with momentum for large-batch
training" (2024), Eq. 7-8, Algorithm 1. beta = 0 gives SNGD. The document's equation has no weight
decay and its runs have 0.0001: here it is inside the norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .bucket import Bucket, Tensors, norms
from .engine import Form, ScaledMomentum

__all__ = ["SNGM"]


class SNGM(ScaledMomentum):
    """Momentum on the gradient divided by its norm over all parameters of all groups.

    Groups may differ in every option; their decayed gradients still share one norm.

    Args:
        params: parameters, named parameters or groups of them.
        lr: learning rate eta, the length of a step without momentum; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda, added inside the norm.
        form: "gradient" (the document's) or "velocity"; they differ when the rate changes.
        maximize: ascend instead.
        foreach: None and True update all tensors of a dtype at once, False one at a time.

    Raises:
        ValueError: an option has a value it cannot have.
        TypeError: on a step with a sparse gradient.

    Example:
        >>> weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = SNGM([weights], lr=1.0, momentum=0.9)
        >>> (0.5 * weights.square().sum()).backward()
        >>> optimizer.step()
        >>> weights.data  # moved by 1 towards the origin
        tensor([2.4000, 3.2000])
        >>> optimizer.state[weights]["scale"]
        tensor(0.2000)
    """

    layerwise: ClassVar[bool] = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        form: Form = "gradient",
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form}
        super().__init__(params, {**options, "maximize": maximize, "foreach": foreach})

    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensors]:
        """Return the inverse of the norm over everything, for every parameter."""
        if not buckets:
            return []
        norm = _norm([bucket.decayed for bucket in buckets])
        decays = any(bucket.weight_decay for bucket in buckets)
        gradient = _norm([bucket.gradients for bucket in buckets]) if decays else norm
        # Below the smallest normal number of float32 the inverse may be infinite there.
        zero = torch.minimum(norm, gradient) < torch.finfo(torch.float32).tiny
        scale = norm.reciprocal().masked_fill(zero, 0.0)
        firsts = [bucket.decayed[0] for bucket in buckets]
        return [
            [scale.to(first.device, first.dtype)] * len(bucket.parameters)
            for bucket, first in zip(buckets, firsts, strict=True)
        ]


def _norm(lists: Sequence[Tensors]) -> Tensor:
    """The norm of all tensors as one vector, in the widest of their precisions."""
    parts = [torch.stack(list(norms(tensors))) for tensors in lists]
    wide = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    device = parts[0].device
    norm: Tensor = torch.linalg.vector_norm(torch.cat([part.to(device, wide) for part in parts]))
    return norm
