r"""LAMB: Adam's direction, by a share of the length of each layer.

    m <- beta1*m + (1 - beta1)*g            v <- beta2*v + (1 - beta2)*g^2
    r = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + lambda*w
    w <- w - eta * phi(||w||) / ||r|| * r

w: the weights of one layer, here one parameter; g: its combined gradient; m, v: moments, zero at
first; t: the parameter's steps, from 1; all but t of w's shape. ||.||: Euclidean norm over the
layer; phi(z) = z, or z bounded to `clip`; the ratio is 1 where phi(||w||) or ||r|| is 0. lambda:
weight decay; eta: learning rate, the share of its length by which each layer moves: a layer whose
gradients stay 0 shrinks by eta a step, however small lambda > 0 is.
Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes"
(2020), Algorithm 2. Its editions differ in the correction by 1 - beta^t: `bias_correction=False`
is the one without. Other code under this name first clips the gradients to a global norm of 1, or
bounds the ratio instead of ||w||: neither is in the paper, nor here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..measure import Tensors, decayed, wide
from .bucket import Bucket
from .checks import Check, fraction, one_of, positive
from .layers import Layers
from .normalized import Normalized, averaged, full_precision

__all__ = ["LAMB"]


def fractions(name: str, value: object) -> tuple[float, float]:
    """Return `value`, a pair of numbers in [0, 1).

    Example:
        >>> fractions("betas", (0.9, 1.0))
        Traceback (most recent call last):
        ValueError: betas must be two numbers of at least 0 and below 1, got (0.9, 1.0)
    """
    try:
        first, second = (fraction(name, each) for each in value)  # type: ignore[attr-defined]
        return first, second
    except (TypeError, ValueError):
        message = f"{name} must be two numbers of at least 0 and below 1, got {value!r}"
        raise ValueError(message) from None


class LAMB(Normalized):
    """Adam with decay, each layer's step normalized to a share of the layer's weights.

    Without the ratio (`exclude="all"`) it is torch.optim.AdamW. State: "exp_avg" m, "exp_avg_sq"
    v, "step" t (float32, on the parameter's device) and "scale", the ratio of the last step.

    Args:
        params: parameters, named parameters or groups of them.
        lr: learning rate eta; a number or a tensor.
        betas: (beta1, beta2), each in [0, 1).
        eps: added to the square root of the second moment; above 0, or 0/0 would be NaN.
        weight_decay: lambda, inside the direction and its norm.
        bias_correction: whether moments are divided by 1 - beta^t.
        exclude: "1d" leaves parameters of at most one dimension (biases, normalization) out of
            the ratio and of weight decay, as most public results have it; None scales and decays
            all, as the paper has it. "all", for a group: never scaled; its `weight_decay` stays.
        clip: (low, high), the bounds of phi; None for phi(z) = z.
        maximize: ascend instead.
        foreach: None and True update all tensors of a dtype at once, False one at a time.
        fused: None uses torch's fused kernel of AdamW where it can, False never.
        state_dtype: precision of the moments, such as torch.float32 for bfloat16 parameters,
            whose second moment hardly decays in its own; None for each parameter's own.

    Raises:
        ValueError: an option has a value it cannot have.
        TypeError: on a step with a sparse gradient.

    Example:
        >>> weights = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = LAMB([weights], lr=0.1)
        >>> (weights * torch.tensor([1.0, -100.0])).sum().backward()
        >>> optimizer.step()
        >>> weights.data  # Adam's first direction is (1, -1), of norm sqrt(2); the weights' is 5
        tensor([[2.6464, 4.3536]])
        >>> optimizer.state[weights]["scale"]
        tensor(3.5355)
    """

    buffers: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    checks: ClassVar[Mapping[str, Check]] = {
        **Normalized.checks,
        "betas": fractions,
        "eps": positive,
        "bias_correction": one_of(True, False),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        bias_correction: bool = True,
        exclude: Literal["1d", "all"] | None = "1d",
        clip: tuple[float, float] | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        ratio = {"bias_correction": bias_correction, "exclude": exclude, "clip": clip}
        how = {"maximize": maximize, "foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        super().__init__(params, {**options, **ratio, **how})

    def directions(self, bucket: Bucket) -> Tensors:
        """Return r of each parameter."""
        group, parameters = bucket.group, bucket.parameters
        shares, means = [1 - beta for beta in group["betas"]], self._moments(bucket)
        steps = self._counted(bucket)
        gradients = decayed(bucket.gradients, parameters, 0.0)
        moments = averaged(means[0], gradients, shares[0])
        squares = averaged(means[1], torch._foreach_mul(gradients, gradients), shares[1])
        lengths = torch._foreach_sqrt(squares)
        if group["bias_correction"]:
            first, second = _corrections(steps, group["betas"], squares[0].dtype)
            torch._foreach_div_(lengths, second.sqrt().unbind())
            torch._foreach_add_(lengths, group["eps"])
            torch._foreach_mul_(lengths, first.unbind())
        else:
            torch._foreach_add_(lengths, group["eps"])
        made = [d.to(wide(parameters[0].dtype)) for d in torch._foreach_div(moments, lengths)]
        if bucket.weight_decay:
            torch._foreach_add_(made, parameters, alpha=bucket.weight_decay)
        return made

    def layers(self, bucket: Bucket) -> Layers | None:
        """The same by torch's fused kernel, which writes it into a scratch."""
        moments = self._moments(bucket)
        if not full_precision(bucket) or not bucket.fuses(*moments):
            return None
        return _Adam(bucket, *moments, self._counted(bucket))

    def _moments(self, bucket: Bucket) -> tuple[list[Tensor], list[Tensor]]:
        return self.buffer(bucket, "exp_avg"), self.buffer(bucket, "exp_avg_sq")

    def _counted(self, bucket: Bucket) -> list[Tensor]:
        """T of each parameter, of this step."""
        states = [self.state[owner] for owner in bucket.owners]
        device = bucket.parameters[0].device
        for state in states:
            if "step" not in state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=device)
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1.0)
        return steps


def _corrections(
    steps: Tensors, betas: tuple[float, float], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """1 - beta^t of each parameter, for both betas."""
    counts = torch.stack(list(steps)).to(dtype)
    logs = [math.log(beta) if beta else -math.inf for beta in betas]
    # In float32 1 - 0.999 has four digits that are right; this has all.
    first, second = (-torch.expm1(counts * log) for log in logs)
    return first, second


class _Adam(Layers):
    """Directions by torch's fused AdamW, run not on the weights but on a scratch for a batch."""

    def __init__(
        self, bucket: Bucket, moments: Tensors, squares: Tensors, steps: list[Tensor]
    ) -> None:
        super().__init__(bucket)
        self.moments, self.squares, self.steps = moments, squares, steps
        if not bucket.group["bias_correction"]:
            self.steps = [torch.full_like(steps[0], math.inf)] * len(steps)  # beta^t = 0

    @cached_property
    def scratch(self) -> Tensor:
        # For this step only: it is as large as the largest layer.
        most = min(self.room, sum(weight.numel() for weight in self.weights))
        return self.weights[0].new_zeros(most)

    def straight(self, rate: float) -> None:
        """Move the weights by the kernel itself."""
        self._run(slice(None), self.bucket.parameters, rate, self.bucket.weight_decay)

    def begin(self, batch: slice) -> Tensors:
        """The directions but for the decay."""
        sizes = [w.numel() for w in self.weights[batch]]
        rooms = torch.split(self.scratch[: sum(sizes)], sizes)
        # A rate and a decay of -1 leave p*(1 - 1) + r: r, whatever finite p was there.
        self._run(batch, rooms, -1.0, -1.0)
        return rooms

    def finish(self, direction: Tensor, weight: Tensor, layer: int, start: int) -> None:
        """Add the decay."""
        if self.bucket.weight_decay:
            direction.add_(weight, alpha=self.bucket.weight_decay)

    def clear(self) -> None:
        """Make the scratch finite again."""
        self.scratch.zero_()

    def _run(self, batch: slice, targets: Tensors, rate: float, decay: float) -> None:
        group: dict[str, Any] = self.bucket.group
        torch._fused_adamw_(
            targets,
            self.bucket.gradients[batch],
            self.moments[batch],
            self.squares[batch],
            [],
            self.steps[batch],
            lr=rate,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=decay,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
