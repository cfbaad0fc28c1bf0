"""What a method is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.optim import Optimizer

import largebatch as lb

from ..errors import InputError

__all__ = ["Build", "Family", "Method", "Perturb", "Rule"]

Build = Callable[..., Optimizer | tuple[Optimizer, ...]]
"""Called as ``build(params, lr=, momentum=, weight_decay=)``."""

Family = Literal[
    "one rate for all",
    "normalized",
    "a rate for each layer",
    "a rate for each element",
    "adaptive",
    "of others",
]


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        name: as written on the command line.
        summary: one line.
        source: author and year, with the equation where there are several.
        family: what it does to the gradient; rules of a family stand together in the list.
        build: from parameters, lr, momentum and weight decay to the optimizer, or to several that
            share the parameters out; momentum and weight decay of rules that have them.
        lr: centre of a comparison's first grid; a choice at the grid's edge widens all grids, as
            often as the comparison allows.
        step: factor between the grid's coarse rates: two around a centre that we know to be near,
            ten around an optimizer's default, which knows nothing of the task.
        extra: gradients of the batch that a step costs beyond its own, on average.
        by_worker: whether a step depends on how the batch is shared out among workers.
    """

    name: str
    summary: str
    source: str
    family: Family
    build: Build
    lr: float
    step: float = 10.0
    extra: float = 0.0
    by_worker: bool = False


@dataclass(frozen=True)
class Perturb:
    """A perturbation.

    Attributes:
        name: as written on the command line.
        summary: one line.
        source: author and year, with the equation where there are several.
        build: from alpha and the run's seed to the perturbation.
        reach: centre of a comparison's grid for alpha·eta, the quantity that offsets scale with:
            the grid of alpha is around ``reach`` over the rule's ``lr``.
        extra: gradients of the batch that a step costs beyond its own.
    """

    name: str
    summary: str
    source: str
    build: Callable[[float, int], lb.Perturbation]
    reach: float
    extra: float = 0.0


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

    @property
    def by_worker(self) -> bool:
        """Whether a step depends on how the batch is shared out among workers."""
        return self.perturb is not None or self.rule.by_worker

    def optimizers(
        self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> tuple[Optimizer, ...]:
        """The rule's optimizers, mostly one."""
        made = self.rule.build(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        return made if isinstance(made, tuple) else (made,)

    def perturbation(self, alpha: float | None, seed: int) -> lb.Perturbation | None:
        """The perturbation; an alpha missing or too many is an error."""
        if (alpha is None) != (self.perturb is None):
            need = "needs an alpha" if self.perturb else "has no alpha"
            raise InputError(f"method {self.id!r} {need}, got alpha={alpha}")
        return None if self.perturb is None or alpha is None else self.perturb.build(alpha, seed)
