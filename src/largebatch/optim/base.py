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

from ..measure import on_host
from ..mesh import local
from .bucket import Bucket, buckets
from .checks import Check, float_dtype, learning_rate, nonnegative, one_of

__all__ = ["Rule", "published", "still"]

# Options that buckets read in any group: a rule that does not know them shall not take them.
_BUCKET_OPTIONS = ("exclude", "clamp", "nesterov")


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
    _given: dict[str, Any] | None = None  # the state that is being loaded
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
        self._as_saved()
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options that it leaves out are the optimizer's.

        Raises:
            ValueError: an option has a value it cannot have.
        """
        if isinstance(param_group, dict):  # what is not gets torch's own message below
            param_group.update(self._checked({**self.defaults, **param_group}))
        super().add_param_group(param_group)
        try:
            _check_fused(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a group as they are stored."""
        foreign = [name for name in _BUCKET_OPTIONS if name in options and name not in self.checks]
        if foreign:
            raise ValueError(f"{type(self).__name__} has no option {foreign[0]!r}: leave it out")
        missing = [name for name in self.checks if name not in options]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs the options {missing}: give each a value"
            )
        return {name: check(name, options[name]) for name, check in self.checks.items()}

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
        """Continue from `state_dict`, as torch does; what is no buffer keeps its precision.

        Raises:
            ValueError: an option has a value it cannot have, or parameters do not fit.
        """
        self._given = None
        last = self.register_load_state_dict_pre_hook(_take)  # sees what the hooks before it made
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
            self._given = None

    def _accept(self, given: dict[str, Any]) -> None:
        """Check a state before anything is changed, and keep its values as they were saved."""
        for group in given["param_groups"]:
            self._checked({**self.defaults, **group})
        saved = chain.from_iterable(group["params"] for group in given["param_groups"])
        mine = [p for group in self.param_groups for p in group["params"]]
        for index, parameter in zip(saved, mine, strict=False):  # torch compares their numbers
            for name, value in given["state"].get(index, {}).items():
                if name in self.buffers and value.shape != parameter.shape:
                    raise ValueError(
                        f"the state's {name!r} has shape {tuple(value.shape)}, its parameter "
                        f"{tuple(parameter.shape)}: is it of another model, or in another order?"
                    )
        self._given = given

    def _as_saved(self) -> None:
        """Undo torch's casting of the state to the parameters' precision."""
        if self._given is None:
            return
        saved = chain.from_iterable(group["params"] for group in self._given["param_groups"])
        mine = ((p, group) for group in self.param_groups for p in group["params"])
        for index, (parameter, group) in zip(saved, mine, strict=True):
            for name, value in self._given["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    buffer = name in self.buffers
                    dtype = group["state_dtype"] or parameter.dtype if buffer else value.dtype
                    self.state[parameter][name] = value.to(parameter.device, dtype, copy=True)

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


def _check_fused(group: dict[str, Any]) -> None:
    """Raise ValueError where the fused way is demanded and there is none."""
    if group["fused"] is not True:
        return
    if group["foreach"] is not None:
        raise ValueError(f"fused=True and foreach={group['foreach']} exclude each other: leave one")
    if group.get("nesterov"):
        raise ValueError("fused=True has no nesterov: leave fused=None")
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


def _take(rule: Optimizer, given: dict[str, Any]) -> None:
    assert isinstance(rule, Rule)  # it registered this itself
    rule._accept(given)


def published(states: Sequence[dict[str, Any]], name: str, values: Tensor) -> None:
    """Leave one number a parameter in its state, as a 0-dim tensor of its own.

    Of its own: parameters that do not step keep theirs.
    """
    known = [state[name] for state in states if name in state]
    if len(known) == len(states) and not on_host(values):
        # In place: a replayed CUDA graph reads and writes the tensors that it was made with.
        torch._foreach_copy_(known, values.expand(len(states)).unbind())
        return
    each = values if values.ndim else values.expand(len(states)).clone()
    for state, value in zip(states, each.unbind(), strict=True):
        state[name] = value
