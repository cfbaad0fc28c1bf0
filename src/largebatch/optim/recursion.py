r"""The recursion that the rules with a scale share, and the passes over memory that carry it out.

    d = s*(g + lambda*w)      u <- beta*u + d         w <- w - eta*u      form "gradient"
                              u <- beta*u + eta*d     w <- w - u          form "velocity"
    h = g + lambda*w          u <- beta*u + h         w <- w - eta*s*u    form "buffer"

Momentum is kept as v, with u = r*v and a number r a parameter:

    v <- c*v + k*h    w <- w - a*v        c = beta*r_old/r, k = 1

    gradient: r = s, a = eta*s        velocity: r = a = eta*s        buffer: r = 1, a = eta*s

so that the scale rides on two numbers, and the update moves the bytes of plain momentum SGD: on a
CPU in torch's own fused kernel for that. Where r would be 0 (no direction, no rate) h is left out,
r stays, and momentum goes on. In float16, whose range v = u/r may leave, r is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..measure import HALVES, Tensors, decayed, on_host
from .bucket import Bucket

# Units of momentum are at least so large, unless 0.
_LEAST_UNIT = 1e-30

__all__ = ["Coefficients", "Form", "advance", "coefficients", "descend", "learning_rate"]

Form = Literal["gradient", "velocity", "buffer"]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The numbers of one step, one a parameter or 0-dim for all.

    Attributes:
        carry: c, what the momentum is multiplied by.
        gain: k, what h is multiplied by: 1, but where the unit cannot follow.
        stride: a, what the weights move by, in units of v.
        unit: r, the unit that v is in from this step on.
        gains: False where it is known beforehand that k is 1 for all.
    """

    carry: Tensor
    gain: Tensor
    stride: Tensor
    unit: Tensor
    gains: bool


def coefficients(
    group: dict[str, Any], scale: Tensor, before: Tensor, *, may_vanish: bool, plain: bool
) -> Coefficients:
    """The numbers of a step with scale s, which `may_vanish`; momentum was in the unit `before`.

    With `plain` the unit is 1, for momentum whose precision has no room for another.
    """
    beta, form = group["momentum"], group["form"]
    rate = learning_rate(group, scale.device)
    moved = (scale * rate).expand_as(before)
    wanted = {"gradient": scale.expand_as(before), "velocity": moved, "buffer": None}[form]
    if wanted is None:
        one = torch.ones_like(before)
        return Coefficients(beta * before, one, moved, one, gains=False)
    step = rate if form == "gradient" else 1.0
    if plain:
        return Coefficients(beta * before, wanted, step * torch.ones_like(before), before**0, True)
    still = form == "velocity" and (isinstance(group["lr"], Tensor) or not group["lr"])
    # Elsewhere a scale of 0 comes from an infinite gradient, and shall show: r = 0 gives NaN.
    idle = wanted == 0 if may_vanish or still else torch.zeros_like(before, dtype=torch.bool)
    # Below this a step moves no weight, and v = u/r would overflow where u does not.
    unit = torch.where(wanted == 0, wanted, wanted.clamp(min=_LEAST_UNIT))
    unit = torch.where(idle, before, unit)
    carry = beta * torch.where(idle, 1.0, before / unit)
    return Coefficients(carry, (~idle).to(unit.dtype), step * unit, unit, may_vanish or still)


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
    for (carry, gain, stride), indices in _rows(numbers, len(bucket.parameters)).items():
        weights, gradients, velocities = ([each[i] for i in indices if each] for each in lists)
        if gain == 1:
            _sgd(weights, gradients, velocities, carry, stride, bucket.weight_decay)
        elif velocities:
            directions = decayed(gradients, weights, bucket.weight_decay)
            torch._foreach_mul_(velocities, carry)
            if gain:
                torch._foreach_add_(velocities, directions, alpha=gain)
            torch._foreach_add_(weights, velocities, alpha=-stride)


def _rows(numbers: Coefficients, count: int) -> dict[tuple[float, float, float], list[int]]:
    """The numbers of the step on the host, with the parameters that share them."""
    parts = [numbers.carry, numbers.gain, numbers.stride]
    lists = [part.expand(count).tolist() for part in parts]
    if all(len(set(each)) == 1 for each in lists):  # one norm for all: nothing to sort
        return {(lists[0][0], lists[1][0], lists[2][0]): list(range(count))}
    rows: dict[tuple[float, float, float], list[int]] = {}
    for index, row in enumerate(zip(*lists, strict=True)):
        rows.setdefault(row, []).append(index)
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
    if numbers.gains and momenta is not None:
        directions = torch._foreach_mul(directions, _each(numbers.gain, directions))
    if momenta is not None:
        torch._foreach_mul_(momenta, _each(numbers.carry, momenta))
        torch._foreach_add_(momenta, directions)
        if bucket.group.get("nesterov"):
            ahead = torch._foreach_mul(momenta, bucket.group["momentum"])
            torch._foreach_add_(ahead, directions)
            directions = ahead
        else:
            directions = momenta
    descend(bucket.parameters, directions, numbers.stride)


def _each(values: Tensor, like: Tensors) -> Tensors:
    """One number a tensor, also where one serves all."""
    return values.expand(len(like)).unbind()


def descend(weights: Tensors, directions: Tensors, stride: Tensor) -> None:
    """Subtract a times its direction from each weight, in one rounding of half precision."""
    if stride.ndim == 0 and weights[0].dtype not in HALVES:
        torch._foreach_sub_(weights, torch._foreach_mul(directions, stride))
    else:  # one pass and one rounding, though a kernel for each tensor
        torch._foreach_addcmul_(weights, directions, _each(stride, weights), value=-1.0)
