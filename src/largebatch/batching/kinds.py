r"""What moves with the batch, by the optimizer's kind.

    lr            -> lr * f(kappa)
    betas, alpha  -> beta^kappa           the same horizon in examples
    momentum      -> momentum^kappa       where it averages: signs and Muon
    eps           -> eps / sqrt(kappa)
    weight_decay  -> lambda * kappa / f   where decoupled: lr * lambda / B stays

kappa = B/B0, the batch over the batch that the values were chosen for; f: the rule.

sgd: f = kappa, momentum and coupled decay stay (Goyal et al. 2017, Sec. 2.1). adam, rmsprop:
f = sqrt(kappa), 1 - beta -> kappa (1 - beta), eps -> eps/sqrt(kappa) (Malladi et al. 2022, "On the
SDEs and scaling rules for adaptive gradient algorithms"); beta^kappa agrees with theirs to first
order in 1 - beta and stays between 0 and 1 at every kappa: our decision. normalized: f =
sqrt(kappa), as eta = sqrt(B/C) of SNGM (Zhao et al. 2024) and LAMB's scaling (You et al. 2020);
that LAMB's betas and eps stay is our decision: its paper scales the rate alone.
sign, muon, adafactor and the decoupled decay: our decisions, by the same reasoning as Adam's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

__all__ = ["KINDS", "MOVES", "RULES", "Kind", "kind_of", "moved", "rate_factor"]

Rule = Callable[[float], float]


@dataclass(frozen=True)
class Kind:
    """How an optimizer's options follow the batch.

    Attributes:
        rule: the rate's, a name of ``RULES``.
        moves: options that move.

    Example:
        >>> KINDS["sgd"]
        Kind(rule='linear', moves=('lr',))
    """

    rule: str
    moves: tuple[str, ...]


RULES: Mapping[str, Rule] = MappingProxyType(
    {"linear": float, "sqrt": sqrt, "none": lambda kappa: 1.0}
)
"""What each rule multiplies the rate by, given kappa."""

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "sgd": Kind("linear", ("lr",)),
        "adam": Kind("sqrt", ("lr", "betas", "eps", "weight_decay")),
        "rmsprop": Kind("sqrt", ("lr", "alpha", "eps")),
        "adafactor": Kind("sqrt", ("lr", "weight_decay")),
        "sign": Kind("sqrt", ("lr", "betas", "momentum", "weight_decay")),
        "muon": Kind("sqrt", ("lr", "momentum", "weight_decay")),
        "normalized": Kind("sqrt", ("lr",)),
    }
)
"""The kinds of optimizers that have a rule."""

# By class name, so that neither our update rules nor other packages' are imported here. Adagrad,
# Adadelta and Rprop are left out on purpose: no rule is published for them. So is ASGD: its step
# uses the rate that it has computed in the step before, which lags behind the batch.
_CLASSES = {
    "sgd": "SGD FusedSGD",
    "adam": "Adam AdamW NAdam RAdam Adamax SparseAdam FusedAdam Adam8bit AdamW8bit",
    "rmsprop": "RMSprop",
    "adafactor": "Adafactor",
    "sign": "Lion Lion8bit SignSGD Signum",
    "muon": "Muon",
    "normalized": "SNGM LARS LARS2020 CLARS PercentDelta MCLR CBLR LAMB Lamb FusedLAMB Lars",
}
_KIND_OF = {name: kind for kind, names in _CLASSES.items() for name in names.split()}
_DECOUPLED = frozenset({"AdamW", "AdamW8bit", "Lion", "Lion8bit", "Muon", "Adafactor"})


def _names(optimizer: Optimizer) -> list[str]:
    return [each.__name__ for each in type(optimizer).__mro__]


def kind_of(optimizer: Optimizer) -> str:
    """The kind of an optimizer, by the name of its class or of one that it derives from.

    Raises:
        ValueError: a class without a rule.

    Example:
        >>> import torch
        >>> kind_of(torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]))
        'adam'
    """
    found = next((_KIND_OF[name] for name in _names(optimizer) if name in _KIND_OF), None)
    if found is None:
        raise ValueError(
            f"no rule is known for how the values of {type(optimizer).__name__} follow the batch: "
            f"say which kind it is (kind= one of {', '.join(map(repr, KINDS))}), or rule='none'"
        )
    return found


def rate_factor(rule: Rule, kappa: float) -> float:
    """f(kappa), which must be a finite number above 0.

    Example:
        >>> rate_factor(RULES["sqrt"], 16.0)
        4.0
    """
    factor = rule(kappa)
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise TypeError(
            f"rule must return a number for kappa, got {factor!r} of kappa={kappa:g}: return what "
            "the rate is multiplied by"
        )
    if not isfinite(factor) or factor <= 0:
        raise ValueError(
            f"rule must return a finite number above 0, got {factor!r} of kappa={kappa:g}"
        )
    return float(factor)


def moved(option: str, value: Any, kappa: float, factor: float, *, decoupled: bool = False) -> Any:
    """The value of a group's option at kappa; a number, a tensor or a pair of them.

    Example:
        >>> moved("betas", (0.9, 0.99), kappa=2.0, factor=1.0)
        (0.81, 0.9801)
    """
    if isinstance(value, tuple | list):
        each = (moved(option, one, kappa, factor, decoupled=decoupled) for one in value)
        return type(value)(each)
    # Adafactor's eps may be None, a fused optimizer's betas tensors.
    return value if value is None else _MOVED[option](value, kappa, factor, decoupled)


_Move = Callable[[float | Tensor, float, float, bool], float | Tensor]
_MOVED: Mapping[str, _Move] = MappingProxyType(
    {
        "lr": lambda value, kappa, factor, decoupled: value * factor,
        "betas": lambda value, kappa, factor, decoupled: value**kappa,
        "alpha": lambda value, kappa, factor, decoupled: value**kappa,
        "momentum": lambda value, kappa, factor, decoupled: value**kappa,
        "eps": lambda value, kappa, factor, decoupled: value / sqrt(kappa),
        "weight_decay": lambda value, kappa, factor, decoupled: (
            value * (kappa / factor) if decoupled else value
        ),
    }
)
MOVES: tuple[str, ...] = tuple(_MOVED)


def is_decoupled(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether a group's weight decay acts on the weights, not through the gradient.

    Example:
        >>> import torch
        >>> adam = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])
        >>> is_decoupled(adam, adam.param_groups[0])
        False
    """
    for option in ("decoupled_weight_decay", "weight_decouple"):
        if option in group:
            return bool(group[option])
    return any(name in _DECOUPLED for name in _names(optimizer))
