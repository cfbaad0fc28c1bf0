"""What every update rule here is to torch: an optimizer with checked options and a portable state.

A step sorts the parameters that have a gradient into buckets and hands them to the rule. State is
tensors alone, on the parameters' device, so that it loads with `weights_only=True`, lives in a
CUDA graph and moves between devices and precisions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from .bucket import Bucket, buckets
from .checks import Check, float_dtype, learning_rate, nonnegative, one_of
from .mesh import local

__all__ = ["Rule", "published", "still"]


class Rule(Optimizer, ABC):
    """An optimizer whose rule sees all parameters of a step at once.

    A rule says whether it is `layerwise`, extends `checks` by its own options, names its
    `buffers` and writes `update`. What its parameters were last scaled by is left in
    `state[parameter]["scale"]`.

    Attributes:
        checks: for each option of a parameter group, the check of its value.
        buffers: the entries of a parameter's state that have its shape, kept in its precision or
            in the group's `state_dtype`; all other entries keep their own.
    """

    @property
    @abstractmethod
    def layerwise(self) -> bool | None:
        """Whether each parameter has a scale of its own; None where none is published."""

    buffers: ClassVar[tuple[str, ...]]
    checks: ClassVar[Mapping[str, Check]] = {
        "lr": learning_rate,
        "weight_decay": nonnegative,
        "maximize": one_of(True, False),
        "foreach": one_of(None, True, False),
        "fused": one_of(None, True, False),
        "state_dtype": float_dtype,
    }

    def __init__(self, params: ParamsT, options: Mapping[str, Any]) -> None:
        """Take the parameters; options of every rule that are not given are off."""
        off = {"maximize": False, "foreach": None, "fused": None, "state_dtype": None}
        super().__init__(params, {**off, **options})

    @abstractmethod
    def update(self, buckets: Sequence[Bucket]) -> None:
        """Update all parameters of all groups that have a gradient, once."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over `state`; options that an older checkpoint does not know are the optimizer's."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options that it leaves out are the optimizer's.

        Raises:
            ValueError: an option has a value it cannot have.
        """
        if isinstance(param_group, dict):  # what is not gets torch's own message below
            options = {**self.defaults, **param_group}
            checked = {name: check(name, options[name]) for name, check in self.checks.items()}
            param_group.update(checked)
        super().add_param_group(param_group)
        try:
            _check_fused(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters once, and leave their gradients as they were.

        Args:
            closure: evaluates the model again, with gradients enabled, and returns the loss;
                called once.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update([b for g in self.param_groups for b in buckets(g, type(self).__name__)])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, as torch does; what is no buffer keeps its precision."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        mine = ((p, group) for group in self.param_groups for p in group["params"])
        shared: dict[tuple[str, int, torch.device], Tensor] = {}
        for index, (parameter, group) in zip(saved, mine, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                if not isinstance(value, Tensor):
                    continue
                # torch has cast it to the parameter's dtype.
                dtype = value.dtype
                if name in self.buffers:
                    dtype = group["state_dtype"] or parameter.dtype
                made = value.to(parameter.device, dtype, copy=True)
                if value.ndim == 0:  # one scale may serve many parameters, and shall go on to
                    made = shared.setdefault((name, value.data_ptr(), parameter.device), made)
                self.state[parameter][name] = made

    def buffer(self, bucket: Bucket, name: str) -> list[Tensor]:
        """State `name` of the bucket's parameters, zeros at first; of DTensors the local piece."""
        dtype = bucket.group["state_dtype"]
        found = []
        for owner in bucket.owners:
            state = self.state[owner]
            if name not in state:
                state[name] = torch.zeros_like(owner, dtype=dtype or owner.dtype)
            found.append(state[name])
        return found if bucket.sharding is None else [local(each) for each in found]


def _mixed(known: Sequence[Tensor], values: Tensor) -> bool:
    """Whether one tensor holds what are several numbers by now."""
    if torch.compiler.is_compiling() or values.ndim == 0:
        return False
    return len({id(each) for each in known}) < len(known)


def _check_fused(group: dict[str, Any]) -> None:
    """Raise ValueError where the fused way is demanded and there is none."""
    if group["fused"] is not True:
        return
    if group["foreach"] is not None:
        raise ValueError(f"fused=True and foreach={group['foreach']} exclude each other: leave one")
    devices = {str(p.device) for p in group["params"] if p.device.type != "cpu"}
    if devices:
        raise ValueError(
            f"fused=True needs parameters on a CPU, got some on {', '.join(sorted(devices))}: "
            "leave it None and compile the step, torch.compile(optimizer.step)"
        )


def still(group: dict[str, Any]) -> bool:
    """Whether the group's rate is known to be 0, so that no scale matters.

    So torch.distributed.checkpoint makes an optimizer's state: by a step with rate and gradients 0.
    """
    rate = group["lr"]
    return not (isinstance(rate, Tensor) and not rate.is_cpu) and not rate


def published(states: Sequence[dict[str, Any]], name: str, values: Tensor) -> None:
    """Leave one value a parameter in its state: 0-dim tensors, the same one where `values` is."""
    ones = [values] * len(states) if values.ndim == 0 else values.unbind()
    known = [state[name] for state in states if name in state]
    if values.device.type == "cpu" or len(known) < len(states) or _mixed(known, values):
        for state, value in zip(states, ones, strict=True):
            state[name] = value
        return
    # Written in place: a replayed CUDA graph reads and writes the tensors that it was made with.
    torch._foreach_copy_(known, ones)
