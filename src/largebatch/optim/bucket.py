r"""The parameters of one group that an update rule handles at once.

    h = g + lambda*w

w: parameter; g: its gradient (its negative under `maximize`); lambda: the group's weight decay.
All have the parameter's shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..measure import Tensors, alike, any_nonzero, decayed, decayed_norms, nonzero, norms
from ..mesh import Sharding, local, sharding

__all__ = ["Bucket", "buckets"]


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Parameters of one group, device, dtype and placement that got a gradient.

    Attributes:
        group: the parameter group, with all its options.
        weight_decay: lambda for these parameters (0 where `exclude` leaves them out of it).
        owners: the parameters as the optimizer knows them: the keys of its state.
        parameters: their values w; of a DTensor the local piece.
        gradients: g, the gradients to descend, clamped where the group says so; never to be
            written to.
        excluded: left out of the rule's scaling: their scale is 1.
        sharding: how DTensors lie on their mesh; None for others.

    Example:
        >>> weight = torch.ones(2)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> options = {"weight_decay": 1.0, "maximize": False, "foreach": None}
        >>> [bucket] = buckets({"params": [weight], **options}, "SGD")
        >>> bucket.decayed(), bucket.norms("gradients")
        ((tensor([4., 5.]),), tensor([5.]))
    """

    group: dict[str, Any]
    weight_decay: float
    owners: list[Tensor]
    parameters: Tensors
    gradients: Tensors
    excluded: bool = False
    sharding: Sharding | None = None

    @property
    def sizes(self) -> list[int]:
        """How many elements each whole parameter has."""
        return [owner.numel() for owner in self.owners]

    def decayed(self) -> Tensors:
        """H of each parameter, in float32 for half precision; g itself where lambda is 0."""
        return decayed(self.gradients, self.parameters, self.weight_decay)

    def norms(self, of: Literal["parameters", "gradients", "decayed"] | Tensors) -> Tensor:
        """||w||, ||g|| or ||h|| of each whole parameter, or of tensors that lie as they do."""
        if not isinstance(of, str):
            found = norms(of)
        elif of == "decayed":
            found = decayed_norms(self.gradients, self.parameters, self.weight_decay)
        else:
            found = norms(getattr(self, of))
        return found if self.sharding is None else self.total(found.square()).sqrt()

    def moved(self, *, each: bool) -> Tensor:
        """Whether gradients have an element that is not 0: any of them, 0-dim, or `each`."""
        found = nonzero(self.gradients) if each else any_nonzero(self.gradients)
        return found if self.sharding is None else self.total(found.float()) > 0

    def fuses(self, *states: Tensors) -> bool:
        """Whether torch's fused kernels may run over the bucket and the state that goes with it.

        They must be asked for nothing else, and find one precision and one order of elements; empty
        lists do not count. To be asked on the host alone.

        Raises:
            ValueError: `fused` demands them, and they may not.
        """
        group = self.group
        if group["fused"] is False or group["foreach"] is not None:
            return False
        lists = [self.parameters, self.gradients, *(tensors for tensors in states if tensors)]
        able = _one_kind(lists)
        if group["fused"] is True and not able:
            raise ValueError(
                "fused=True needs weights, gradients and state of one precision and memory format: "
                "leave fused=None to step them otherwise"
            )
        return able

    def total(self, sums: Tensor) -> Tensor:
        """What was summed over each parameter's local piece, summed over the whole."""
        return sums if self.sharding is None else self.sharding.total(sums)

    def whole(self, pieces: Tensors) -> Iterator[Tensor]:
        """Whole tensors from pieces of the parameters' placement, gathered one after another."""
        for piece, owner in zip(pieces, self.owners, strict=True):
            yield (
                piece
                if self.sharding is None
                else self.sharding.gathered(piece, owner.shape, owner.stride())
            )


def _one_kind(lists: list[Tensors]) -> bool:
    dtype = lists[0][0].dtype
    return all({t.dtype for t in tensors} == {dtype} for tensors in lists) and alike(lists)


def buckets(group: dict[str, Any], rule: str) -> list[Bucket]:
    """Return the parameters of `group` that have a gradient, sorted into buckets.

    With `foreach=False` each parameter gets a bucket of its own: the same arithmetic, one tensor
    at a time.

    Args:
        group: a parameter group of an optimizer.
        rule: the optimizer's name, for the error message.

    Raises:
        TypeError: a gradient is sparse or complex, or lies otherwise than its parameter.

    Example:
        >>> weights = [torch.ones(2), torch.ones(3), torch.ones(2, dtype=torch.float64)]
        >>> for weight in weights: weight.grad = torch.ones_like(weight)
        >>> group = {"params": weights, "weight_decay": 0.0, "maximize": False, "foreach": None}
        >>> [len(bucket.parameters) for bucket in buckets(group, "SNGM")]
        [2, 1]
    """
    sorted_: dict[tuple[Any, ...], list[int]] = {}
    parameters, one_by_one = group["params"], group["foreach"] is False
    excludes = _EXCLUDED[group.get("exclude")]
    for index, parameter in enumerate(parameters):
        gradient = parameter.grad
        if gradient is None:
            continue
        if gradient.layout != torch.strided:
            raise _sparse(rule, _named(index, group), gradient)
        alone = index if one_by_one else None
        left_out, where = excludes(parameter), sharding(parameter)
        key = (left_out, where, parameter.device, parameter.dtype, alone)
        sorted_.setdefault(key, []).append(index)
    for (_, where, _, dtype, _), indices in sorted_.items():
        if dtype.is_complex:
            raise _complex(rule, _named(indices[0], group), dtype)
        if where is not None:
            _check_placed(rule, group, indices, where)
    return [
        _bucket(group, [parameters[i] for i in indices], left_out, where)
        for (left_out, where, *_), indices in sorted_.items()
    ]


def _bucket(
    group: dict[str, Any], owners: list[Tensor], excluded: bool, where: Sharding | None
) -> Bucket:
    gradients: Tensors = [p.grad for p in owners if p.grad is not None]
    parameters = owners
    if where is not None:
        gradients, parameters = [local(g) for g in gradients], [local(p) for p in owners]
    if group["maximize"]:
        gradients = torch._foreach_neg(gradients)
    if group.get("clamp") is not None:
        gradients = torch._foreach_clamp_min(gradients, -group["clamp"])
        torch._foreach_clamp_max_(gradients, group["clamp"])
    undecayed = excluded and group["exclude"] == "1d"
    weight_decay = 0.0 if undecayed else group["weight_decay"]
    return Bucket(group, weight_decay, owners, parameters, gradients, excluded, where)


_EXCLUDED: dict[str | None, Callable[[Tensor], bool]] = {
    None: lambda parameter: False,
    "1d": lambda parameter: parameter.ndim <= 1,
    "all": lambda parameter: True,
}


def _check_placed(rule: str, group: dict[str, Any], indices: list[int], where: Sharding) -> None:
    for index in indices:
        if sharding(group["params"][index].grad) != where:
            raise TypeError(
                f"{rule} needs the gradient of {_named(index, group)} to lie as the parameter "
                f"does ({where.placements}): redistribute it"
            )


def _sparse(rule: str, name: str, gradient: Tensor) -> TypeError:
    return TypeError(
        f"{rule} needs dense gradients, but that of {name} is {gradient.layout}: build the layer "
        "with sparse=False, or give its parameters to torch.optim.SparseAdam"
    )


def _complex(rule: str, name: str, dtype: torch.dtype) -> TypeError:
    return TypeError(
        f"{rule} needs real parameters, but {name} is {dtype}: hold it as the real tensor that "
        "torch.view_as_real gives"
    )


def _named(index: int, group: dict[str, Any]) -> str:
    names = group.get("param_names")
    which = repr(names[index]) if names else f"number {index} of its group"
    return f"parameter {which} (shape {tuple(group['params'][index].shape)})"
