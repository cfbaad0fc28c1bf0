"""One step's gradients, on their way from each worker's own to the mean over all processes.

    passes that stay here:  g_i  →  listeners  →  added up here
    the step's last pass:   piece of g_i  →  listeners  →  what was added up here joins it
                            →  sum over processes  →  p.grad

    g = sum_i weight_i g_i / sum_i weight_i        reduction "mean"; the weights are added up beside
    g = mean over processes of sum_i p.grad_i      reduction "sum"

With one process there is no such last pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from .checks import check_gradients, check_reduced
from .combine import Accumulator
from .contracts import Listener, ListenerOfSeveral, Pooled
from .layout import layouts_of
from .looks import Looks
from .mesh import local
from .parallel import Piece, Tally, Who
from .settings import Settings

__all__ = ["Gathering"]

# The gradients, how much of a mean they are, and NaN where a look found a flaw.
Mean = tuple[list[Tensor | None], float | Tensor, Tensor | None]


class Gathering:
    """Tells listeners of each worker's gradient, and makes the mean of them.

    Args:
        settings: what Workers was made with.
        step: number of the step.
        trained: the parameters in training.
        owned: how many of them, from the first, the optimizers hold: listeners hear of those.
        listeners: who is told.

    Attributes:
        looks: what passes that only look have found.
        workers: how many of this process's workers have counted.
        everyone: how many of all processes' have, once :meth:`combined` is through.
        reduced: whether the pass has run in which gradients are added up over processes.
    """

    def __init__(
        self,
        settings: Settings,
        step: int = 0,
        trained: Sequence[Tensor] = (),
        owned: int = 0,
        listeners: Sequence[Listener] = (),
    ) -> None:
        """Start with nothing gathered."""
        self.looks = Looks(settings.reduction, layouts_of(trained[:owned]))
        self.workers = 0
        self.everyone: int | Tensor = 0
        self.reduced = False
        self._settings = settings
        self._processes = settings.processes
        self._step = step
        self._trained = list(trained)
        self._places = {id(parameter): j for j, parameter in enumerate(self._trained)}
        self._owned = owned
        self._listeners = listeners
        self._sum = Accumulator(settings.reduction)
        self._total: list[Tensor | None] = []  # over processes
        self._came: set[int] = set()
        self._tally: Tally | None = None

    @property
    def _parts(self) -> int:
        """What the sum over processes is divided by before it is made, as DDP does for halves.

        All workers, or of losses that add up on each process, the processes.
        """
        each = self._settings.count if self._settings.reduction == "mean" else 1
        return self._processes.ranks * each

    @property
    def under_way(self) -> bool:
        """Whether other processes have been told something of this step."""
        return self._tally is not None

    @contextmanager
    def passing(self, worker: int, weight: float | Tensor, *, reducing: bool) -> Iterator[None]:
        """Around local worker ``worker``'s forward and backward."""
        if not reducing:
            with self._processes.apart():
                yield
            return
        with self._processes.together(partial(self._join, worker, weight)):
            yield
        rest = [p for p in self._trained[: self._owned] if id(p) not in self._came]
        self._tell(worker, rest, [None] * len(rest), weight)

    def take(self, worker: int, weight: float | Tensor) -> None:
        """Take over what a pass that counts has left in ``p.grad``."""
        gradients = self._left()
        self._tell(worker, self._trained[: self._owned], gradients[: self._owned], weight)
        self._drop()
        self._sum.add(gradients, weight, several=self._settings.count > 1)
        self.workers += 1

    def take_several(
        self, first: int, size: int, gradients: Sequence[Tensor | None], weight: float | Tensor
    ) -> None:
        """Take over the gradients of ``size`` workers from ``first`` on, a row for each."""
        owned = gradients[: self._owned]
        parameters = self._trained[: self._owned]
        factor = self._factor(weight)
        for listener in self._listeners if parameters else ():
            if isinstance(listener, ListenerOfSeveral):
                listener.saw_several(first, parameters, owned, factor=factor, weight=weight)
                continue
            for row in range(size):
                each = [None if g is None else g[row] for g in owned]
                listener.saw(first + row, parameters, each, factor=factor, weight=weight)
        self._sum.add_sum([None if g is None else g.sum(0) for g in gradients], size, weight)
        self.workers += size

    def take_reduced(self) -> None:
        """Take over what the step's last pass has left: the sum over processes."""
        self._total = self._left()
        check_reduced(self._trained, self._total, self._came)
        self._drop()
        self.workers += 1
        self.reduced = True

    def take_look(
        self, weights: Sequence[Tensor], weight: float | Tensor, alone: bool, passes: int
    ) -> None:
        """Take over what a pass has left that only looks.

        Args:
            weights: those that are perturbed.
            weight: the worker's.
            alone: whether each worker looks for itself, or else all for all.
            passes: after how many looks of this process all of them have.
        """
        gradients = self._here()[: self._owned]
        check_gradients(gradients, gradients)
        self._drop()
        self.looks.add(gradients, weight, several=not alone and passes > 1)
        if alone or self.looks.added == passes:
            processes = None if alone else self._processes
            self.looks.find(weights, self._settings.loss_scale(), processes)

    def combined(self) -> list[Tensor | None]:
        """The mean, of which the listeners are told; None where no worker had a gradient."""
        if self._processes.reduces:
            gradients, share, flaw = self._mean_over_processes()
        else:
            gradients, share, flaw = self._mean_here()
        owned = gradients[: self._owned]
        if flaw is not None:
            _add_everywhere(owned, flaw)
        if self._listeners:
            self._pool()
            undo = self._settings.loss_scale() * share
            for listener in self._listeners:
                listener.combined(owned, factor=1.0 / undo)
        return gradients

    def _left(self) -> list[Tensor | None]:
        gradients = self._here()
        check_gradients(gradients[: self._owned], gradients)
        return gradients

    def _here(self) -> list[Tensor | None]:
        """What stands in ``p.grad``; this process's piece of it."""
        found = (parameter.grad for parameter in self._trained)
        return [None if gradient is None else local(gradient) for gradient in found]

    def _drop(self) -> None:
        for parameter in self._trained:
            parameter.grad = None

    def _tell(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        weight: float | Tensor,
    ) -> None:
        if not self._listeners or not parameters:
            return
        factor = self._factor(weight)
        for listener in self._listeners:
            listener.saw(worker, parameters, gradients, factor=factor, weight=weight)

    def _factor(self, weight: float | Tensor) -> float | Tensor:
        """What makes of a gradient as it was left the worker's own."""
        share = 1.0 if self._settings.reduction == "mean" else weight
        return 1.0 / (share * self._settings.loss_scale())

    @torch.no_grad()
    def _join(self, worker: int | None, weight: float | Tensor, piece: Piece) -> None:
        """Tell of a piece, and have in its place this process's part of the sum.

        Without a worker, the piece is of zeros.
        """
        if self._tally is None:
            self._tally = self._sent(weight, worker)
        self._came.update(id(parameter) for parameter in piece.parameters)
        places = [self._places.get(id(parameter)) for parameter in piece.parameters]
        part = 1.0 / self._parts
        if worker is not None:
            owned = [place is not None and place < self._owned for place in places]
            parameters = list(compress(piece.parameters, owned))
            self._tell(worker, parameters, list(compress(piece.gradients, owned)), weight)
            own = part * weight if self._settings.reduction == "mean" else part
            piece.buffer.mul_(own)
        self._add_earlier(piece, places, part)

    def _add_earlier(self, piece: Piece, places: Sequence[int | None], part: float) -> None:
        """Add what the workers before the last have left here."""
        if not self._sum.workers:
            return
        totals = [None if place is None else self._sum.total[place] for place in places]
        pairs = zip(piece.gradients, totals, strict=True)
        both = [(gradient, total) for gradient, total in pairs if total is not None]
        if both:
            torch._foreach_add_([g for g, _ in both], [t for _, t in both], alpha=part)

    def _sent(self, weight: float | Tensor, worker: int | None) -> Tally:
        """Send this process's numbers, which go ahead of its gradients."""
        given = self._settings
        who = Who(self._step, given.count, given.made_with)
        tally = Tally(self._processes, self._trained[0].device, who, first=not given.agreed)
        tally.send(self._sum.weight + weight, self.workers + (worker is not None), self.looks.flaw)
        return tally

    def _mean_here(self) -> Mean:
        self.everyone = self.workers
        return self._sum.mean(), self._sum.share, self.looks.flaw

    def _mean_over_processes(self) -> Mean:
        if not self.reduced:
            self._reduce_late()
        assert self._tally is not None
        weight, self.everyone, flaw_anywhere = self._tally.received()
        self._settings.agreed = True
        flaw = None if self.looks.flaw is None else flaw_anywhere
        if self._settings.reduction == "sum":
            return self._total, weight / self._parts, flaw
        correction = self._parts / weight
        present = [gradient for gradient in self._total if gradient is not None]
        # On a CPU the number can be read at no cost.
        if present and (correction.device.type != "cpu" or correction != 1):
            torch._foreach_mul_(present, correction)
        return self._total, 1.0, flaw

    def _reduce_late(self) -> None:
        """Add up over processes after the passes, where no pass was known to be the last."""
        total = self._sum.total
        found = [p for p, t in zip(self._trained, total, strict=False) if t is not None]
        self._processes.late(partial(self._join, None, 0.0), found)
        self._total = self._here()
        check_reduced(self._trained, self._total, self._came)
        self.reduced = True

    def _pool(self) -> None:
        if self._processes.reduces:
            pooled = [each.pooled() for each in self._listeners if isinstance(each, Pooled)]
            if pooled:
                self._processes.add_up([tensor for tensors in pooled for tensor in tensors])


def _add_everywhere(gradients: Sequence[Tensor | None], flaw: Tensor) -> None:
    """Make gradients NaN where the flaw is, without a host sync; it is 0 elsewhere."""
    with torch.no_grad():
        for gradient in gradients:
            if gradient is not None:
                gradient.add_(flaw.to(gradient.device))
