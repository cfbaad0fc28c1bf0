"""The learning rate that an offset is measured in: eta of the weight's group, or its layer's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam

from .contracts import RateKind

__all__ = ["Owned", "check_optimizers", "owned_parameters", "rates_of"]

Owned = tuple[Tensor, Optimizer, dict[str, Any]]


def check_optimizers(optimizer: Optimizer | Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    """The optimizers as a tuple; those that cannot work with workers are refused by name."""
    given = (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer)
    found = tuple(_unwrapped(each) for each in given)
    if not found:
        raise ValueError("Workers needs an optimizer or a sequence of them; the sequence is empty")
    for each in found:
        if not isinstance(each, Optimizer):
            raise TypeError(
                f"Workers needs a torch.optim.Optimizer, got {type(each).__name__}: pass the "
                "optimizer that steps the model's parameters"
            )
        if isinstance(each, LBFGS | SparseAdam):
            raise TypeError(
                f"{type(each).__name__} does not work with Workers: LBFGS evaluates the loss "
                "inside its step and SparseAdam wants sparse gradients; use another optimizer"
            )
    return found


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """The optimizer itself, of which Accelerate's ``prepare`` gives a wrapper.

    The wrapper has neither its hooks nor what it says of itself (its scale, what it listens to).
    """
    # By name: largebatch needs torch alone.
    while type(optimizer).__name__ == "AcceleratedOptimizer":
        optimizer = optimizer.optimizer  # type: ignore[attr-defined]
    return optimizer


def owned_parameters(
    optimizers: Sequence[Optimizer],
) -> list[Owned]:
    """Each trained parameter with its optimizer and group, in the optimizers' order."""
    return [
        (parameter, optimizer, group)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.requires_grad
    ]


def rates_of(owned: Sequence[Owned], kind: RateKind | None) -> list[float | Tensor]:
    """Rate per parameter; None means "layer" under layer-wise optimizers and "global" elsewhere."""
    return [_rate(*each, kind) for each in owned]


def _rate(
    parameter: Tensor, optimizer: Optimizer, group: dict[str, Any], kind: RateKind | None
) -> float | Tensor:
    layerwise = getattr(optimizer, "layerwise", None)
    lr: float | Tensor = group["lr"]
    if kind == "global" or (kind is None and not layerwise):
        return lr
    if layerwise is None:
        raise ValueError(
            f"rate='layer' needs an optimizer that publishes each parameter's last scale, as "
            f"largebatch.LARS and largebatch.SNGM do; {type(optimizer).__name__} does not: "
            "use rate='global'"
        )
    scale = optimizer.state[parameter].get("scale") if parameter in optimizer.state else None
    # Before the parameter's first step there is no scale, and 0 is the one honest guess: the
    # worker looks at w itself.
    return 0.0 if scale is None else lr * scale
