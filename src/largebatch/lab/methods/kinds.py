"""What a method is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from torch import Tensor
from torch.optim import Optimizer

import largebatch as lb
from largebatch.contracts import GradientNoise

from ..errors import InputError

__all__ = [
    "Build",
    "Built",
    "Family",
    "Loss",
    "LossFn",
    "LossOf",
    "Method",
    "Noise",
    "Part",
    "Perturb",
    "Rule",
    "RunFacts",
]

T = TypeVar("T")

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
class Part(Generic[T]):
    """What joins an update rule: a perturbation, noise on the gradient, another loss.

    Attributes:
        name: as written on the command line.
        summary: one line.
        source: author and year, with the equation where there are several.
        build: from its parameter's value and the run to the part.
        centre: of a comparison's first grid of the parameter; with ``per_rate``, the centre of the
            parameter times the rate, which the part's effect goes with.
        parameter: what the source calls the parameter.
        step: factor between the grid's values.
        most: largest value that has a meaning.
        per_rate: whether the grid is around ``centre`` over the rule's ``lr``.
        extra: gradients of the batch that a step costs beyond its own, on average.
        by_worker: whether its effect depends on how the batch is shared out among workers.
    """

    name: str
    summary: str
    source: str
    build: Callable[[float, RunFacts], T]
    centre: float
    parameter: str = "alpha"
    step: float = 3.0
    most: float = float("inf")
    per_rate: bool = False
    extra: float = 0.0
    by_worker: bool = True

    def first(self, rate: float) -> float:
        """Where the parameter's grid starts beside this centre of the rates."""
        return self.centre / rate if self.per_rate else self.centre


class RunFacts(NamedTuple):
    """What a part may depend on beside its parameter.

    Attributes:
        seed: of its random numbers.
        step_at: from a share of the run's epochs to the first step after it.
    """

    seed: int
    step_at: Callable[[float], int]


LossFn = Callable[[Tensor, Tensor], Tensor]
"""From outputs and targets to losses."""
LossOf = Callable[[LossFn], LossFn]
"""From one loss for each example, (examples,), to the one loss that is descended, 0-dim."""

Perturb = Part[lb.Perturbation]
Noise = Part[GradientNoise]
Loss = Part[LossOf]


@dataclass(frozen=True)
class Method:
    """What a method's name stands for.

    Attributes:
        id: the name as given.
        rule: its update rule.
        perturb: its perturbation, or None.
        noise: its noise on the combined gradient, or None.
        loss: what it descends in place of the mean loss, or None.
        fixed: the values of parameters that the name fixes, by the part's name.
        longer: trained for the small-batch reference's number of updates.
        grow: trained with a batch that doubles from the small-batch reference's to its own.
    """

    id: str
    rule: Rule
    perturb: Perturb | None = None
    noise: Noise | None = None
    loss: Loss | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)
    longer: bool = False
    grow: bool = False

    @property
    def parts(self) -> list[Part[Any]]:
        """What joins the rule."""
        return [part for part in (self.perturb, self.noise, self.loss) if part is not None]

    @property
    def free(self) -> Part[Any] | None:
        """The part whose parameter the name leaves open: a run's alpha."""
        return next((part for part in self.parts if part.name not in self.fixed), None)

    @property
    def by_worker(self) -> bool:
        """Whether a step depends on how the batch is shared out among workers."""
        return self.rule.by_worker or any(part.by_worker for part in self.parts)

    def optimizers(
        self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> tuple[Optimizer, ...]:
        """The rule's optimizers, mostly one."""
        made = self.rule.build(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        return made if isinstance(made, tuple) else (made,)

    def built(self, alpha: float | None, run: RunFacts) -> Built:
        """The parts with their parameters; an alpha missing or too many is an error."""
        if (alpha is None) != (self.free is None):
            need = f"needs an alpha (its {self.free.parameter})" if self.free else "has no alpha"
            raise InputError(f"method {self.id!r} {need}, got alpha={alpha}")

        def make(part: Part[T] | None) -> T | None:
            if part is None:
                return None
            value = self.fixed.get(part.name, alpha or 0.0)
            if value > part.most:
                raise ValueError(f"{part.parameter} can be {part.most:g} at most, got {value:g}")
            return part.build(value, run)

        try:
            return Built(make(self.perturb), make(self.noise), make(self.loss))
        except ValueError as error:
            raise InputError(f"method {self.id!r}: {error}") from error


class Built(NamedTuple):
    """A method's parts for one run."""

    perturb: lb.Perturbation | None
    noise: GradientNoise | None
    loss: LossOf | None
