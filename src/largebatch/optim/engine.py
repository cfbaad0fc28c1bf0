r"""The one update rule with a scale and momentum that the methods of this package share.

    d = s(w, g) * (g + lambda*w)     u <- beta*u + d        w <- w - eta*u     gradient form
                                     u <- beta*u + eta*d    w <- w - u         velocity form

w: weights; g: the combined gradient; u: momentum buffer, zero at first; d: direction, all of the
parameter's shape. s: scale, 0-dim or of the parameter's shape: what a method is made of. eta:
learning rate `lr`; beta: `momentum`; lambda: `weight_decay`. The forms differ when eta changes.
Sources: the gradient form is that of torch.optim.SGD and of SNGM (Zhao et al. 2024, Eq. 7-8); the
velocity form that of LARS (You et al. 2017, Alg. 1) and of GNC (Haruki et al. 2019, App. A.3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Literal, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from .arithmetic import accumulate, descend, ones, rate_on, times
from .bucket import Bucket, Tensors, buckets
from .checks import Check, fraction, learning_rate, nonnegative, one_of

__all__ = ["Form", "ScaledMomentum"]

Form = Literal["gradient", "velocity"]


class ScaledMomentum(Optimizer, ABC):
    """Momentum on scaled gradients: a method gives the scales, this class does the rest.

    A method sets `layerwise`, extends `checks` by its own options and writes `scales`. What its
    parameters were last scaled by is left in `state[parameter]["scale"]`, a 0-dim tensor.

    Attributes:
        layerwise: whether each parameter has a scale of its own, so that the rate that moved it
            is its group's rate times its scale.
        checks: for each option of a parameter group, the check of its value.

    Example:
        >>> class Doubled(ScaledMomentum):
        ...     layerwise = False
        ...     def scales(self, buckets):
        ...         return [[p.new_tensor(2.0) for p in b.parameters] for b in buckets]
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> weight.grad = torch.tensor([0.25])
        >>> options = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "form": "gradient"}
        >>> Doubled([weight], {**options, "maximize": False, "foreach": None}).step()
        >>> weight.data
        tensor([0.5000])
    """

    layerwise: ClassVar[bool]
    checks: ClassVar[Mapping[str, Check]] = {
        "lr": learning_rate,
        "momentum": fraction,
        "weight_decay": nonnegative,
        "form": one_of("gradient", "velocity"),
        "maximize": one_of(True, False),
        "foreach": one_of(None, True, False),
    }

    @abstractmethod
    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensors]:
        """Return the scale of each parameter of each bucket.

        Args:
            buckets: all parameters of all groups that have a gradient and are not excluded.

        Returns:
            For each bucket one tensor a parameter, on its device, 0-dim or of its shape. One and
            the same tensor for a whole bucket makes for fewer kernels.
        """

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
        everything = [b for g in self.param_groups for b in buckets(g, type(self).__name__)]
        scales = iter(self.scales([b for b in everything if not b.excluded]))
        for bucket in everything:
            self._update(bucket, ones(bucket) if bucket.excluded else next(scales))
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, as torch does, with the scales in their own precision."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, parameter in zip(saved, parameters, strict=True):
            scale = state_dict["state"].get(index, {}).get("scale")
            if scale is not None:  # torch cast it to the parameter's dtype, perhaps half
                self.state[parameter]["scale"] = scale.to(parameter.device, copy=True)

    def _update(self, bucket: Bucket, scales: Tensors) -> None:
        weights, momentum = bucket.parameters, bucket.group["momentum"]
        rate = rate_on(bucket.group["lr"], weights[0].device)
        if momentum == 0:  # the two forms are one, and no buffer is needed
            accumulate(weights, bucket, times(scales, rate), -1.0)
        elif bucket.group["form"] == "velocity":
            velocities = self._momenta(weights, momentum)
            accumulate(velocities, bucket, times(scales, rate))
            torch._foreach_sub_(weights, velocities)
        else:
            momenta = self._momenta(weights, momentum)
            accumulate(momenta, bucket, scales)
            descend(weights, momenta, rate)
        for parameter, scale in zip(weights, scales, strict=True):
            if scale.ndim == 0:  # an element-wise scale would be a second copy of the model
                self.state[parameter]["scale"] = scale

    def _momenta(self, weights: Tensors, momentum: float) -> list[Tensor]:
        """The buffers of `weights`, times beta."""
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_mul_(momenta, momentum)
        return momenta
