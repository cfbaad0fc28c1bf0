r"""The recursion that the rules with a scale share, and the passes over memory that carry it out.

    d = s*(g + lambda*w)      u <- beta*u + d         w <- w - eta*u      form "gradient"
                              u <- beta*u + eta*d     w <- w - u          form "velocity"
    h = g + lambda*w          u <- beta*u + h         w <- w - eta*s*u    form "buffer"

Momentum is kept as v, with u = r*v and a number r a parameter:

    v <- c*v + h      w <- w - a*v        c = beta*r_old/r

    gradient: r = s, a = eta*s        velocity: r = a = eta*s        buffer: r = 1, a = eta*s

so that the scale rides on two numbers, and the update moves the bytes of plain momentum SGD. In
full precision on a CPU it is torch's own fused kernel for that. Where r would be 0 (no direction,
no rate) h is left out, r stays, and momentum goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .bucket import Bucket
from .measure import HALVES, Tensors, on_host

__all__ = ["Coefficients", "Form", "advance", "coefficients", "descend", "learning_rate"]

Form = Literal["gradient", "velocity", "buffer"]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The numbers of one step: 0-dim for all parameters of a bucket, or one a parameter.

    Attributes:
        carry: c, what the momentum is multiplied by.
        stride: a, what the weights move by, in units of v.
        unit: r, the unit that v is in from this step on.
        idle: whether h is left out.
        may_idle: False where it is known beforehand that nothing is idle.
    """

    carry: Tensor
    stride: Tensor
    unit: Tensor
    idle: Tensor
    may_idle: bool


def coefficients(
    group: dict[str, Any], scale: Tensor, before: Tensor, may_vanish: bool
) -> Coefficients:
    """The numbers of a step with scale s, which `may_vanish`; momentum was in the unit `before`."""
    still = group["form"] == "velocity" and (isinstance(group["lr"], Tensor) or not group["lr"])
    rate = learning_rate(group, scale.device)
    moved = scale * rate
    unit = {"gradient": scale, "velocity": moved, "buffer": torch.ones_like(scale)}[group["form"]]
    may_idle = may_vanish or still
    # Elsewhere a scale of 0 comes from an infinite gradient, and shall show: r = 0 gives NaN.
    idle = unit == 0 if may_idle else torch.zeros_like(unit, dtype=torch.bool)
    unit = torch.where(idle, before, unit)
    carry = group["momentum"] * torch.where(idle, 1.0, before / unit)
    stride = {"gradient": unit * rate, "velocity": unit, "buffer": moved}[group["form"]]
    return Coefficients(carry, stride, unit, idle, may_idle)


def learning_rate(group: dict[str, Any], device: torch.device) -> float | Tensor:
    """The group's rate: a number, or where it is a tensor 0-dim and on the device."""
    rate: float | Tensor = group["lr"]
    if not isinstance(rate, Tensor):
        return rate
    # To the host a copy must be waited for, else what is read there may be rubbish.
    return rate.detach().reshape(()).to(device, non_blocking=device.type != "cpu")


def advance(bucket: Bucket, momenta: Tensors | None, numbers: Coefficients) -> None:
    """One step of the recursion on the weights and momenta, in place; without momenta v is h."""
    # Under nesterov beta and c would have to be two numbers.
    fuses = on_host(bucket.parameters[0]) and not bucket.group.get("nesterov")
    if fuses and bucket.fuses(momenta or []):
        _fused(bucket, momenta, numbers)
    else:
        _multi_tensor(bucket, momenta, numbers)


def _fused(bucket: Bucket, momenta: Tensors | None, numbers: Coefficients) -> None:
    lists = [bucket.parameters, bucket.gradients, momenta or []]
    for (carry, stride, idle), indices in _rows(numbers, len(bucket.parameters)).items():
        weights, gradients, velocities = ([each[i] for i in indices if each] for each in lists)
        if not idle:
            _sgd(weights, gradients, velocities, carry, stride, bucket.weight_decay)
        elif velocities:
            torch._foreach_mul_(velocities, carry)
            torch._foreach_add_(weights, velocities, alpha=-stride)


def _rows(numbers: Coefficients, count: int) -> dict[tuple[float, float, bool], range | list[int]]:
    """The numbers of the step on the host, with the parameters that share them."""
    parts = [numbers.carry, numbers.stride, numbers.idle]
    if all(part.ndim == 0 for part in parts):
        return {tuple(part.item() for part in parts): range(count)}  # type: ignore[dict-item]
    rows: dict[tuple[float, float, bool], range | list[int]] = {}
    for index, row in enumerate(zip(*(part.expand(count).tolist() for part in parts), strict=True)):
        rows.setdefault(row, []).append(index)  # type: ignore[union-attr]
    return rows


def _sgd(
    weights: Tensors,
    gradients: Tensors,
    velocities: Tensors,
    carry: float,
    stride: float,
    weight_decay: float,
) -> None:
    """V <- c*v + g + lambda*w, w <- w - a*v; without velocities v is g + lambda*w."""
    torch._fused_sgd_(
        weights,
        gradients,
        velocities,
        weight_decay=weight_decay,
        momentum=(carry or 1.0) if velocities else 0.0,
        lr=stride,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=carry == 0.0,  # v <- h, whatever the momentum
    )


def _multi_tensor(bucket: Bucket, momenta: Tensors | None, numbers: Coefficients) -> None:
    directions = bucket.decayed()
    if numbers.may_idle:
        kept = (~numbers.idle).to(directions[0].dtype)
        directions = torch._foreach_mul(directions, _factors(kept))
    if momenta is not None:
        torch._foreach_mul_(momenta, _factors(numbers.carry))
        torch._foreach_add_(momenta, directions)
        if bucket.group.get("nesterov"):
            ahead = torch._foreach_mul(momenta, bucket.group["momentum"])
            torch._foreach_add_(ahead, directions)
            directions = ahead
        else:
            directions = momenta
    descend(bucket.parameters, directions, numbers.stride)


def _factors(values: Tensor) -> Tensor | Tensors:
    """One number, or one a tensor, as multi-tensor operations want them."""
    return values if values.ndim == 0 else values.unbind()


def descend(weights: Tensors, directions: Tensors, stride: Tensor) -> None:
    """W <- w - a*d, in place, with one number a or one a parameter."""
    if stride.ndim == 0 and weights[0].dtype not in HALVES:
        torch._foreach_sub_(weights, torch._foreach_mul(directions, stride))
    else:  # one pass and one rounding, though a kernel for each tensor
        strides = stride.expand(len(weights)).unbind()
        torch._foreach_addcmul_(weights, directions, strides, value=-1.0)
