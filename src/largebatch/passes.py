"""The passes of one step after another: enter a worker, capture its gradient, combine.

    for i = 1..M:  look at w + offset_i  →  g_i  →  back to w  →  the memory sees g_i
    g = mean of g_i  →  noise on g  →  p.grad

:class:`largebatch.Workers` is the face of this: it drives whole steps and saves the state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from . import checks
from .added_noise import AddedNoise
from .clean import CleanWeights, RunningStatistics
from .contracts import Listener
from .gathering import Gathering
from .listening import check_listener, introduce
from .memory import Memory
from .mesh import placed
from .order import Order, Worker, in_order, order_of
from .settings import Settings
from .sight import Several, Sight

__all__ = ["Passes"]

log = logging.getLogger("largebatch")


class Passes:
    """Runs the workers of a step one after another, and then the next step's.

    Attributes:
        step: number of the step, from 0.
        memory: what is remembered of each worker; None where nothing is.
        running: whether a worker is running.
        ran: how many passes of the step have run.
        shown: what the perturbation's refresh returned last; None before.
        shared_out: whether the step's passes are known to be as many as its order has.
    """

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        """Start at step 0 with nothing remembered."""
        self.step = 0
        self.memory: Memory | None = None
        self.running = False
        self.shown: list[Tensor] | None = None
        self.shared_out = False
        self._settings = settings
        self._clean = CleanWeights()
        self._statistics = RunningStatistics(model)
        self._noise = AddedNoise(settings)
        self.ran = 0
        self._gathering = Gathering(settings)
        self._sight = Sight(settings, 0, [], self._gathering, None, None)
        self._model = model
        self._trained: list[Tensor] = []  # those owned, then those that no optimizer given holds

    def _start_anew(self) -> None:
        """No pass of the step has run."""
        self.ran = 0
        self.shared_out = False
        self._gathering = Gathering(self._settings)
        self._sight.close()

    def check_idle(self) -> None:
        """Raise RuntimeError where a worker is running, or looked for by at()."""
        if self.running:
            raise RuntimeError(
                "a worker is still running, or at() stands where one looks: leave its `with` block "
                "first"
            )

    @property
    def order(self) -> Order:
        """The passes of the present step."""
        return order_of(self._settings.perturb, self.step, self._settings.count)

    @property
    def offset_to_weight_norm(self) -> Tensor | None:
        """Of the last step's first worker, 0-dim; None without perturbation."""
        return self._sight.offset_to_weight_norm

    @property
    def reduced(self) -> bool:
        """Whether the step's gradients have been added up over processes: no worker may follow."""
        return self._gathering.reduced

    def shared(
        self, batch: tuple[Any, ...], inner: tuple[Any, ...] | None
    ) -> Iterator[tuple[Any, ...]]:
        """The batch's pieces, one for each pass of the step, which starts anew."""
        self.check_idle()
        self.forget()
        perturb, order = self._settings.perturb, self.order
        elsewhere = perturb is not None and perturb.elsewhere(self.step)
        checks.check_inner(perturb, elsewhere, inner)
        self.shared_out = True
        for piece in in_order(order, batch, inner, elsewhere):
            checks.check_same_count(order, self._settings.count)
            yield piece

    @contextmanager
    def enter(self, weight: float | Tensor, last: bool | None) -> Iterator[Worker]:
        """The next worker's pass, which counts ``weight``; where it fails, it leaves no trace."""
        if self.ran == 0:
            self._begin_step()
        order, gathering = self.order, self._gathering
        local, counts = order.at(self.ran)
        final = self.ran == order.length - 1
        if last is None and self.shared_out:
            last = final
        worker = Worker(self._settings.number(local), counts, last)
        ends = counts and (bool(last) or final)
        reducing = ends and self._settings.processes.reduces
        self._drop_gradients()
        with self._or_as_before():
            with (
                self._clean.moved(self._sight.weights, self._sight.offsets(worker, local)),
                gathering.passing(local, weight, reducing=reducing),
            ):
                yield worker
            if not counts:
                alone = order.scope == "worker"
                gathering.take_look(self._sight.weights, weight, alone, order.count)
                self._statistics.to_start()
            else:
                gathering.take_reduced() if reducing else gathering.take(local, weight)
                self._statistics.collect()
        self.ran += 1

    @contextmanager
    def at(self, local: int) -> Iterator[None]:
        """The weights at which local worker ``local`` will look in the step that comes next."""
        settings = self._settings
        self.check_idle()
        checks.check_at(settings.perturb, self.step, local, settings.count)
        checks.check_between_steps("at()", self.ran, self.running)
        owned = settings.owned()
        weights = [p for p, _, _ in owned]
        known = self.memory is not None and self.memory.fits(settings.remembers(self.step), weights)
        memory = self.memory if known else None
        # One of its own, so that what the step's keeps once for all of its workers stays its own.
        gathering = Gathering(settings, self.step, weights, len(weights))
        sight = Sight(settings, self.step, owned, gathering, memory, self.shown)
        worker = Worker(settings.number(local))
        torch.clear_autocast_cache()
        self.running = True  # a pass within would take moved weights for the clean ones
        try:
            with self._clean.moved(sight.weights, sight.offsets(worker, local)):
                yield
        finally:
            torch.clear_autocast_cache()
            self.running = False

    @contextmanager
    def enter_several(self, first: int, size: int, weight: float | Tensor) -> Iterator[Several]:
        """The passes of ``size`` workers from number ``first`` on, each of which counts ``weight``.

        Weights stay clean; those that each worker looks at are handed out, and gradients back.
        """
        if self.ran == 0:
            self._begin_step()
        self._drop_gradients()
        with self._or_as_before():
            others = self.trained[len(self._owned) :]
            several = Several(self.trained, self._sight.of_several(first, size, others))
            yield several
            self._gathering.take_several(first, size, several.gradients, weight)
        self.ran += size

    @property
    def trained(self) -> list[Tensor]:
        """All parameters in training at this step: those owned, then the model's others."""
        return self._trained

    def combine(self) -> None:
        """Leave the mean over the workers that ran in ``p.grad``; go on to the next step.

        Where it fails, the step's workers are forgotten, and so is what was remembered.
        """
        if self.ran == 0:
            self._begin_step()
            # What processes add up for their first worker's offsets, they wait for here too.
            self._sight.offsets(Worker(self._settings.number(0)), 0)
        # Taken out first: the mean is divided in place, and must not be divided twice.
        gathering = self._gathering
        self._start_anew()
        try:
            gradients = [
                None if gradient is None else placed(gradient, parameter)
                for parameter, gradient in zip(self._trained, gathering.combined(), strict=True)
            ]
            owned = [parameter for parameter, _, _ in self._owned]
            self._noise.combined(owned, gradients[: len(owned)], self.step)
            self._statistics.end_step(gathering.everyone, self._settings.processes)
        except BaseException:
            self._forget()
            raise
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        self.step += 1

    def forget(self) -> None:
        """Start the step anew, without the workers that have run."""
        if self.ran or self._gathering.under_way:
            self._forget()
        self._start_anew()

    def _listeners(self) -> list[Listener]:
        return [*([self.memory] if self.memory else []), *self._settings.listeners()]

    def _forget(self) -> None:
        for listener in self._listeners():
            listener.forget()

    def listen(self, listener: Listener) -> RemovableHandle:
        """Have ``listener`` hear of the steps to come, until the handle is removed."""
        checks.check_between_steps("listen()", self.ran, self.running)
        check_listener(listener, self._settings.count, self._settings.processes.ranks)
        if any(each is listener for each in self._settings.heard_by.values()):
            raise ValueError(
                f"this {type(listener).__name__} listens already, and would hear all twice: remove "
                "its handle first"
            )
        handle = RemovableHandle(self._settings.heard_by)
        self._settings.heard_by[handle.id] = listener
        return handle

    def recount(self, count: int) -> None:
        """Have ``count`` workers from the next step on; what is remembered starts from zero."""
        checks.check_between_steps("count cannot change", self.ran, self.running)
        checks.check_count(self._settings.perturb, count, self._settings.processes.ranks)
        if count == self._settings.count:
            return
        if self.memory is not None:
            what = "from %d to %d workers: their %s starts from zero"
            log.info(what, self._settings.count, count, self.memory.kind)
        # Freed at once; the next step makes room for the new ones.
        self.memory = None
        self._settings.count = count

    def resume(self, step: int, memory: Memory | None, shown: list[Tensor] | None) -> None:
        """Go on at ``step`` with what is remembered of the step before, and was shown last."""
        self.step, self.memory, self.shown = step, memory, shown
        self._noise.forget()
        self._start_anew()

    def _begin_step(self) -> None:
        self._noise.forget()  # of a step that was combined and then skipped
        self._settings.processes.settle()
        self._owned = self._settings.owned()
        self._keep_trained([p for p, _, _ in self._owned])
        order = self.order
        self._settings.processes.check_step(order.passes, order.count)
        self._statistics.begin_step()
        self._keep_memory([p for p, _, _ in self._owned])
        listeners = self._listeners()
        owned = [p for p, _, _ in self._owned]
        introduce(listeners, self._settings.number(0), self.step, self._model, owned)
        self._gathering = Gathering(
            self._settings, self.step, self._trained, len(self._owned), listeners
        )
        self._sight = Sight(
            self._settings, self.step, self._owned, self._gathering, self.memory, self.shown
        )

    def _keep_trained(self, owned: list[Tensor]) -> None:
        known = {id(p) for p in owned}
        # A gradient that no optimizer given steps is still seen: by clipping over the model's
        # parameters, or by an optimizer of somebody else's. It too becomes the mean.
        others = [p for p in self._model.parameters() if p.requires_grad and id(p) not in known]
        now = known | {id(p) for p in others}
        for parameter in self._trained:
            if id(parameter) not in now:
                # Frozen since the last step, whose gradient its optimizer would go on using.
                parameter.grad = None
        self._trained = [*owned, *others]

    def _keep_memory(self, parameters: list[Tensor]) -> None:
        kind, count = self._settings.remembers(self.step), self._settings.count
        if kind == "nothing":
            self.memory = None
        elif self.memory is None or not self.memory.fits(kind, parameters):
            # First step, a switch, or parameters that came, went or moved: noise starts from zero.
            self.memory = Memory(kind, parameters, count, self._settings.noise_dtype)

    @contextmanager
    def _or_as_before(self) -> Iterator[None]:
        self.running = True
        # A cast made at one worker's weights is not another's.
        torch.clear_autocast_cache()
        try:
            yield
        except BaseException:
            self._statistics.to_start()
            self._drop_gradients()
            if self._gathering.under_way:
                # Other processes have this worker's gradient: the step cannot be mended here.
                self.forget()
            raise
        finally:
            torch.clear_autocast_cache()
            self.running = False

    def _drop_gradients(self) -> None:
        for parameter in self._trained:
            parameter.grad = None
