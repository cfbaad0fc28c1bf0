"""What the step asks of a method: the interfaces between :mod:`largebatch.workers` and the rest.

A perturbation is a description without state: given the clean weights, the rates, the number of
the step and of the worker, and what is remembered of that worker, it says where the worker looks.
What must be remembered it declares, and :class:`largebatch.workers.Workers` keeps it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from .layout import Layout
from .listening import Listener, ListenerOfSeveral, Numbered, Pooled, Told

__all__ = [
    "GradientNoise",
    "Listener",
    "ListenerOfSeveral",
    "Memorized",
    "Numbered",
    "Perturbation",
    "Placement",
    "Point",
    "Pooled",
    "RateKind",
    "Refreshed",
    "Scope",
    "Told",
]

RateKind = Literal["global", "layer"]
Memorized = Literal["nothing", "noise", "gradient"]
Placement = Literal["gradient", "weights"]
Scope = Literal["worker", "batch"]
T = TypeVar("T")


class Point:
    """The clean weights at which one step starts, and what follows from them for every worker.

    Attributes:
        step: number of the step, from 0.
        weights: the perturbable weights, detached, in a fixed order. Read only. Of a weight that
            is cut over processes, this one's piece.
        layouts: for each weight, its whole shape and how it is cut.
        workers: how many workers the step has, over all processes.
        shown: what the perturbation's :meth:`Perturbation.refresh` returned last; None before.
    """

    def __init__(
        self,
        step: int,
        weights: Sequence[Tensor],
        rates: Callable[[RateKind | None], list[float | Tensor]],
        *,
        workers: int = 1,
        memories: Callable[[], Sequence[Sequence[Tensor]]] = list,
        add_up: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
        shown: Sequence[Tensor] | None = None,
        layouts: Sequence[Layout] | None = None,
    ) -> None:
        """Hold the weights of step ``step``.

        ``rates`` looks the learning rates up when asked, ``memories`` what is remembered of this
        process's workers; ``add_up`` replaces tensors by their sums over processes; without
        ``layouts`` every weight is whole.
        """
        self.step = step
        self.weights = weights
        self.layouts = [Layout(w.shape) for w in weights] if layouts is None else layouts
        self.workers = workers
        self.shown = shown
        self._rates = rates
        self._memories = memories
        self._add_up = add_up
        self._known: dict[object, object] = {}

    def rates(self, kind: RateKind | None) -> list[float | Tensor]:
        """Learning rate per weight: the group's, or with "layer" times the last step's scale."""
        return self.once(kind, lambda: self._rates(kind))

    def mean_over_workers(
        self, name: object, statistic: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """The mean over all workers of ``statistic`` of what is remembered of each.

        As :meth:`once`, it is computed for the first worker and kept; empty before the first step.
        Each worker's memory is overwritten after its pass, so a later one cannot be the first.
        """
        return self.once(name, lambda: self._mean(statistic))

    def _mean(self, statistic: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> list[Tensor]:
        found = [list(statistic(memory)) for memory in self._memories()]
        sums = [torch.stack(each).sum(0) for each in zip(*found, strict=True)]
        self._add_up(sums)
        return [each / self.workers for each in sums]

    def once(self, name: object, make: Callable[[], T]) -> T:
        """The value of ``make()``, computed for the first worker of a step and kept for the rest.

        Sound for what depends on the point alone, such as filter norms: all workers share it.
        """
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]  # type: ignore[return-value]


class Perturbation(ABC):
    """Where a worker looks: g_i = grad f(d_i; w + offset_i).

    Subclasses are finished classes, best frozen dataclasses: hashable, without state, fit for
    several :class:`~largebatch.Workers` at once.
    """

    @abstractmethod
    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """Offset of each of ``point.weights``; None leaves that weight where it is.

        Args:
            point: clean weights, step and rates.
            worker: number of the worker over all processes, from 0.
            memory: what :meth:`remembers` asked for, one tensor per weight with its shape, in the
                noise dtype and to be left unchanged; None before the first step. Where a step has
                two passes: the gradient that the first one found, without the loss scale.

        Returns:
            One tensor per weight, of its shape and dtype, or None.
        """

    def remembers(self, step: int) -> Memorized:
        """What to keep of each worker from one step for the next: its gradient or gradient noise.

        "noise" is omega_i = g_i - g, "gradient" is g_i itself; either costs one copy of the
        parameters per local worker. The default is nothing.
        """
        return "nothing"

    def passes(self, step: int) -> Literal[1, 2]:
        """How often each worker runs in a step: 2 for a method that must look first.

        The first pass looks at the clean weights; its loss and its batch-norm statistics do not
        count. What gradient it found comes to :meth:`offsets` as the memory.
        """
        return 1

    def scope(self, step: int) -> Scope:
        """Whose gradient the first of two passes finds: the worker's own, or the batch's mean.

        "worker": each shard runs twice, one after the other. "batch": all shards, then all again.
        """
        return "worker"

    def elsewhere(self, step: int) -> bool:
        """Whether the first of two passes wants other examples than the second."""
        return False

    @property
    def refreshes(self) -> bool:
        """Whether it needs :meth:`refresh`, every so many steps."""
        return False

    def refresh(
        self,
        loss: Callable[[], Tensor],
        weights: Sequence[Tensor],
        step: int,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> Sequence[Tensor]:
        """Look at the loss at ``weights``, and return what the points of later steps shall show.

        Every process must return the same.

        Args:
            loss: evaluates it at the present weights, with a graph.
            weights: the perturbable parameters, in the order of the points'.
            step: number of the step, from 0.
            process_group: the processes, each of which evaluates its own batch; None for one.
        """
        raise NotImplementedError(f"{type(self).__name__} does not need to see the loss")

    def broadcasts(self, step: int) -> bool:
        """Whether :meth:`offsets`, given a row for each of several workers, returns such rows.

        So does what only multiplies the memory element by element. Others are asked one by one.
        """
        return False

    @property
    def sharded(self) -> bool:
        """Whether :meth:`offsets` is right where processes have pieces of weights only (FSDP).

        Element-wise work is; norms and random draws must go by ``point.layouts``.
        """
        return False

    @property
    def least_workers(self) -> int:
        """Fewest workers, over all processes, with which the method does anything."""
        return 1


@runtime_checkable
class Refreshed(Protocol):
    """Needs the loss beyond its gradient, every so many steps.

    An optimizer given to :class:`~largebatch.Workers` that has these gets it from its `refresh`.
    """

    @property
    def refreshes(self) -> bool:
        """Whether it needs :meth:`refresh` as it is set."""

    def refresh(self, fn: Callable[..., Tensor], *batch: Any) -> None:
        """Look at the loss ``fn(*batch)`` at the present weights, and change nothing.

        Where several processes have replicas of the weights and a batch each, ``process_group=``
        is given too: what is found must be the same on all. Where the model has no second backward
        pass (FSDP2), ``method="differences"`` is given: see
        :func:`largebatch.curvature.hessian_products`.
        """


class GradientNoise(ABC):
    """Noise that joins the combined gradient, or the weights that a step leaves.

    Subclasses are finished classes, best frozen dataclasses: what they add follows from the step
    and a parameter's place, so that every process and every resumed run adds the same.

    Attributes:
        placement: what the noise joins: "gradient", in ``combine``; or "weights", after the
            optimizer's step.
    """

    placement: Placement = "gradient"

    @abstractmethod
    def add(self, tensors: Sequence[Tensor | None], step: int, scale: float | Tensor) -> None:
        """Add the noise of step ``step`` times ``scale`` to each tensor, in place.

        Nothing may be read on the host. A tensor that is not finite must stay so.

        Args:
            tensors: a gradient (or a weight) for each parameter that the optimizers hold, in
                their order (a DTensor where it is cut over processes); None where it is frozen,
                has no gradient or is not stepped now. So a parameter's place is the same in every
                step.
            step: number of the step, from 0.
            scale: of the loss, whose gradients are still scaled; for weights 1, or 0 where a
                scaler found the step's gradient not finite.
        """
