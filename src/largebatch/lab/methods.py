"""Methods by name: an update rule, a perturbation and options, joined with ``+``.

    msgd   sngm+gnc   torch.optim:NAdam   torch.optim:AdamW+rnc   msgd+longer

An update rule is one of ours or any torch optimizer as ``package.module:Class``; without one it
is momentum SGD. A new method of ours is one line in a table below.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam

import largebatch as lb

from .errors import InputError, nearest
from .tasks.resolve import search_here

__all__ = ["PERTURBATIONS", "RULES", "Method", "Perturb", "Rule", "parse"]


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        name: as written on the command line.
        summary: one line, with its source.
        build: from parameters, lr, momentum and weight decay to the optimizer.
        lr: centre of a comparison's first grid; a choice at the grid's edge widens all grids, as
            often as the comparison allows.
        step: factor between the grid's coarse rates: two around a centre that we know to be near,
            ten around an optimizer's default, which knows nothing of the task.
    """

    name: str
    summary: str
    build: Callable[[Iterable[Tensor], float, float, float], Optimizer]
    lr: float
    step: float = 2.0


@dataclass(frozen=True)
class Perturb:
    """A perturbation.

    Attributes:
        name: as written on the command line.
        summary: one line, with its source.
        build: from alpha and the run's seed to the perturbation.
        reach: centre of a comparison's grid for alpha·eta, the quantity that offsets scale with:
            the grid of alpha is around ``reach`` over the rule's ``lr``.
    """

    name: str
    summary: str
    build: Callable[[float, int], lb.Perturbation]
    reach: float


def _ours(rule: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    return lambda params, lr, momentum, weight_decay: rule(
        params, lr=lr, momentum=momentum, weight_decay=weight_decay
    )


RULES = {
    r.name: r
    for r in (
        Rule("msgd", "momentum SGD, torch.optim.SGD", _ours(torch.optim.SGD), 0.28),
        Rule("lars", "LARS, layer-wise rates (You et al. 2017)", _ours(lb.LARS), 10.0),
        Rule("sngm", "normalized momentum (Zhao et al. 2024, Eq. 7-8)", _ours(lb.SNGM), 1.0),
    )
}

PERTURBATIONS = {
    p.name: p
    for p in (
        Perturb(
            "gnc",
            "gradient noise convolution, filter-wise (Haruki et al., Eq. 6)",
            lambda alpha, seed: lb.GNC(alpha),
            0.04,
        ),
        Perturb(
            "rnc",
            "random noise convolution, filter-wise (Haruki et al., Eq. 5)",
            lambda alpha, seed: lb.RNC(alpha, seed=seed),
            0.15,
        ),
    )
}

LONGER = "longer"


@dataclass(frozen=True)
class Method:
    """What a method's name stands for.

    Attributes:
        id: the name as given.
        rule: its update rule.
        perturb: its perturbation, or None.
        longer: trained for the small-batch reference's number of updates.
    """

    id: str
    rule: Rule
    perturb: Perturb | None = None
    longer: bool = False

    def optimizer(
        self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> Optimizer:
        """The optimizer."""
        return self.rule.build(params, lr, momentum, weight_decay)

    def perturbation(self, alpha: float | None, seed: int) -> lb.Perturbation | None:
        """The perturbation; an alpha missing or too many is an error."""
        if (alpha is None) != (self.perturb is None):
            need = "needs an alpha" if self.perturb else "has no alpha"
            raise InputError(f"method {self.id!r} {need}, got alpha={alpha}")
        return None if self.perturb is None or alpha is None else self.perturb.build(alpha, seed)


def parse(name: str) -> Method:
    """The method of a name such as ``sngm+gnc``; unknown parts give the nearest names.

    Example:
        >>> parse("sngm+gnc").rule.name, parse("rnc").rule.name, parse("msgd+longer").longer
        ('sngm', 'msgd', True)
    """
    rules: list[Rule] = []
    perturbs: list[Perturb] = []
    longer = False
    for part in name.split("+"):
        if part in RULES:
            rules.append(RULES[part])
        elif part in PERTURBATIONS:
            perturbs.append(PERTURBATIONS[part])
        elif part == LONGER:
            longer = True
        elif ":" in part:
            rules.append(_foreign(part))
        else:
            known = [*RULES, *PERTURBATIONS, LONGER]
            raise InputError(
                f"unknown method {part!r} in {name!r}: {nearest(part, known)} "
                "(or package.module:Class for any torch optimizer)"
            )
    if len(rules) > 1 or len(perturbs) > 1:
        raise InputError(f"method {name!r} joins two of a kind: at most one rule and perturbation")
    rule = rules[0] if rules else RULES["msgd"]
    return Method(name, rule, perturbs[0] if perturbs else None, longer)


def _foreign(path: str) -> Rule:
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise InputError(
            f"method {path!r}: {module_name!r} is not a module's name; write package.module:Class"
        )
    search_here()
    try:
        cls = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise InputError(f"method {path!r}: {error}; write package.module:Class") from error
    except AttributeError as error:
        known = [n for n in dir(importlib.import_module(module_name)) if n[0].isupper()]
        raise InputError(
            f"method {path!r}: {module_name} has no {attribute!r}: {nearest(attribute, known)}"
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, Optimizer)):
        raise InputError(f"method {path!r} is not a torch.optim.Optimizer class")
    if issubclass(cls, LBFGS | SparseAdam):
        raise InputError(f"{cls.__name__} does not work with workers: choose another optimizer")
    summary = (
        f"{cls.__name__} of {module_name}: rate, momentum, weight decay ours, the rest its own"
    )
    return Rule(path, summary, *_adapted(cls), step=10.0)


def _adapted(cls: type[Any]) -> tuple[Callable[..., Optimizer], float]:
    """Give a foreign optimizer the rate, and momentum and weight decay where it has them."""
    parameters = inspect.signature(cls).parameters
    if "lr" not in parameters:
        raise InputError(f"{cls.__name__} has no argument lr: wrap it in a class that has one")
    default = parameters["lr"].default

    def build(
        params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> Optimizer:
        ours = {"momentum": momentum, "weight_decay": weight_decay}
        made: Optimizer = cls(params, lr=lr, **{k: v for k, v in ours.items() if k in parameters})
        return made

    return build, float(default) if isinstance(default, int | float) else 0.01
