r"""LARS in its form of 2020: momentum, by a share of the length of each layer.

    u <- beta*u + (1 - beta)*(g + lambda*w)
    w <- w - eta * phi(||w||) / ||u|| * u

w: the weights of one layer, here one parameter; g: its combined gradient; u: momentum, zero at
first; all of w's shape. ||.||: Euclidean norm over the layer; phi(z) = z, or z bounded to `clip`;
the ratio is 1 where phi(||w||) or ||u|| is 0. lambda: weight decay; eta: learning rate, the share
of its length by which each layer moves. The factor 1 - beta cancels in u/||u||; it is kept, so that
the momentum buffer is the paper's and layers without a ratio step by an average of gradients, not
by a sum.
Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes"
(2020), Algorithm 1; SNGM's comparison (Zhao et al. 2024, Eq. 24) has the same. The LARS of 2017
scales the gradient before momentum, by a trust coefficient: :class:`LARS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..measure import Tensors, wide
from .bucket import Bucket
from .checks import Check, fraction
from .layers import Layers, flats
from .normalized import Normalized, averaged, full_precision

__all__ = ["LARS2020"]


class LARS2020(Normalized):
    """Momentum, each layer's step normalized to a share of the layer's weights.

    State: "momentum_buffer" u (with momentum) and "scale", the ratio of the last step.

    Args:
        params: parameters, named parameters or groups of them.
        lr: learning rate eta; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda, inside the momentum.
        exclude: "1d" leaves parameters of at most one dimension (biases, normalization) out of
            the ratio and of weight decay, as most public results have it; None scales and decays
            all, as the paper has it. "all", for a group: never scaled; its `weight_decay` stays.
        clip: (low, high), the bounds of phi; None for phi(z) = z.
        maximize: ascend instead.
        foreach: None and True update all tensors of a dtype at once, False one at a time.
        fused: None works within a CPU's cache where it can, False never.
        state_dtype: precision of the momentum; None for each parameter's own.

    Raises:
        ValueError: an option has a value it cannot have.
        TypeError: on a step with a sparse gradient.

    Example:
        >>> weights = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = LARS2020([weights], lr=0.1)
        >>> (0.5 * weights.square().sum()).backward()
        >>> optimizer.step()
        >>> weights.data  # a tenth of the way to the origin
        tensor([[2.7000, 3.6000]])
        >>> optimizer.state[weights]["scale"]  # 5 / (0.1 * 5)
        tensor(10.)
    """

    buffers: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    checks: ClassVar[Mapping[str, Check]] = {**Normalized.checks, "momentum": fraction}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        exclude: Literal["1d", "all"] | None = "1d",
        clip: tuple[float, float] | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        ratio = {"exclude": exclude, "clip": clip}
        how = {"maximize": maximize, "foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        super().__init__(params, {**options, **ratio, **how})

    def directions(self, bucket: Bucket) -> Tensors:
        """Return u of each parameter; without momentum it is the decayed gradient itself."""
        made = bucket.decayed()
        if bucket.group["momentum"]:
            momenta = self.buffer(bucket, "momentum_buffer")
            made = averaged(momenta, made, 1 - bucket.group["momentum"])
        return [direction.to(wide(bucket.parameters[0].dtype)) for direction in made]

    def layers(self, bucket: Bucket) -> Layers | None:
        """The same in pieces within the cache."""
        if not bucket.group["momentum"]:
            return None
        momenta = self.buffer(bucket, "momentum_buffer")
        if not full_precision(bucket) or not bucket.fuses(momenta):
            return None
        return _Momentum(bucket, momenta)


class _Momentum(Layers):
    """Directions that are the momentum buffers themselves, by torch's fused kernel of SGD."""

    def __init__(self, bucket: Bucket, momenta: Tensors) -> None:
        super().__init__(bucket)
        self.momenta = momenta

    @cached_property
    def flat(self) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients and momenta as vectors."""
        return flats(self.bucket.gradients), flats(self.momenta)

    def straight(self, rate: float) -> None:
        """Move momenta and weights in one pass."""
        self._run(self.bucket.parameters, self.bucket.gradients, self.momenta, rate)

    def begin(self, batch: slice) -> Tensors:
        """The momenta as they were."""
        return self.flat[1][batch]

    def finish(self, direction: Tensor, weight: Tensor, layer: int, start: int) -> None:
        """Add the decayed gradient: the same pass, at a rate of 0."""
        gradient = self.flat[0][layer][start : start + weight.numel()]
        self._run([weight], [gradient], [direction], 0.0)

    def clear(self) -> None:
        """Nothing to forget: no layer's directions lie where another's did."""

    def _run(self, weights: Tensors, gradients: Tensors, momenta: Tensors, rate: float) -> None:
        beta = self.bucket.group["momentum"]
        torch._fused_sgd_(
            weights,
            gradients,
            momenta,
            weight_decay=self.bucket.weight_decay,
            momentum=beta,
            lr=rate,
            dampening=beta,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
