r"""The parameters of one group that an update rule handles at once, and their decayed gradient.

    h = g + lambda * w

w: parameter; g: its gradient (its negative under `maximize`); lambda: the group's weight decay.
All have the parameter's shape. h is g itself, not a copy, where lambda is 0 and nothing else
changed it: nobody may write into it without asking `owned`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Bucket", "Tensors", "buckets", "norms"]

# What torch's multi-tensor operations take and return.
Tensors = tuple[Tensor, ...] | list[Tensor]

_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Parameters of one group, device and dtype that got a gradient.

    Attributes:
        group: the parameter group, with all its options.
        weight_decay: lambda for these parameters (0 where `exclude` leaves them out of it).
        parameters: the weights w.
        gradients: g, the gradients to descend; never to be written to.
        decayed: h = g + lambda*w; in float32 for half-precision parameters.
        excluded: left out of the rule's scaling: their scale is 1.

    Example:
        >>> weight = torch.ones(2)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> options = {"weight_decay": 1.0, "maximize": False, "foreach": None}
        >>> [bucket] = buckets({"params": [weight], **options}, "SGD")
        >>> bucket.decayed
        (tensor([4., 5.]),)
    """

    group: dict[str, Any]
    weight_decay: float
    parameters: Tensors
    gradients: Tensors
    decayed: Tensors
    excluded: bool = False

    @property
    def owned(self) -> bool:
        """Whether `decayed` are temporaries of this step, free to be overwritten."""
        return self.decayed is not self.gradients


def buckets(group: dict[str, Any], rule: str) -> list[Bucket]:
    """Return the parameters of `group` that have a gradient, sorted into buckets.

    With `foreach=False` each parameter gets a bucket of its own: the same arithmetic, one tensor
    at a time.

    Args:
        group: a parameter group of an optimizer.
        rule: the optimizer's name, for the error message.

    Raises:
        TypeError: a gradient is sparse.

    Example:
        >>> weights = [torch.ones(2), torch.ones(3), torch.ones(2, dtype=torch.float64)]
        >>> for weight in weights: weight.grad = torch.ones_like(weight)
        >>> group = {"params": weights, "weight_decay": 0.0, "maximize": False, "foreach": None}
        >>> [len(bucket.parameters) for bucket in buckets(group, "SNGM")]
        [2, 1]
    """
    sorted_: dict[tuple[bool, object, object, object], list[Tensor]] = {}
    for index, parameter in enumerate(group["params"]):
        if parameter.grad is None:
            continue
        _refuse_sparse(parameter, index, group, rule)
        alone = index if group["foreach"] is False else None
        left_out = _excluded(parameter, group.get("exclude"))
        key = (left_out, parameter.device, parameter.dtype, alone)
        sorted_.setdefault(key, []).append(parameter)
    return [_bucket(group, parameters, key[0]) for key, parameters in sorted_.items()]


def norms(tensors: Tensors) -> Tensors:
    """Return the Euclidean norm of each tensor, 0-dim; of half precision in float32.

    Squares are summed in the precision of the result: in float32, elements beyond 1e19 give
    infinity, and those below 1e-22 count as zero.

    Example:
        >>> norms([torch.full((4,), 200.0, dtype=torch.float16)])
        (tensor(400.),)
    """
    if tensors[0].dtype in _HALVES:
        return torch._foreach_norm(tensors, 2, torch.float32)
    return torch._foreach_norm(tensors)


def _bucket(group: dict[str, Any], parameters: list[Tensor], excluded: bool) -> Bucket:
    gradients: Tensors = [p.grad for p in parameters if p.grad is not None]
    if group["maximize"]:
        gradients = torch._foreach_neg(gradients)
    undecayed = excluded and group["exclude"] == "1d"
    weight_decay = 0.0 if undecayed else group["weight_decay"]
    decayed = _decayed(parameters, gradients, weight_decay)
    return Bucket(group, weight_decay, parameters, gradients, decayed, excluded)


def _decayed(parameters: Tensors, gradients: Tensors, weight_decay: float) -> Tensors:
    if parameters[0].dtype in _HALVES:
        # 1/norm overflows float16, and bfloat16 keeps 8 bits of a scale: compute in float32.
        wide = [gradient.to(torch.float32, copy=True) for gradient in gradients]
        if weight_decay:
            torch._foreach_add_(wide, parameters, alpha=weight_decay)
        return wide
    if weight_decay:
        return torch._foreach_add(gradients, parameters, alpha=weight_decay)
    return gradients


_EXCLUDED: dict[str | None, Callable[[Tensor], bool]] = {
    None: lambda parameter: False,
    "1d": lambda parameter: parameter.ndim <= 1,
    "all": lambda parameter: True,
}


def _excluded(parameter: Tensor, exclude: str | None) -> bool:
    return _EXCLUDED[exclude](parameter)


def _refuse_sparse(parameter: Tensor, index: int, group: dict[str, Any], rule: str) -> None:
    gradient = parameter.grad
    if gradient is None or gradient.layout == torch.strided:
        return
    names = group.get("param_names")
    which = repr(names[index]) if names else f"number {index} of its group"
    raise TypeError(
        f"{rule} needs dense gradients, but that of parameter {which} (shape "
        f"{tuple(parameter.shape)}) is {gradient.layout}: build the layer with sparse=False, "
        "or give its parameters to torch.optim.SparseAdam"
    )
