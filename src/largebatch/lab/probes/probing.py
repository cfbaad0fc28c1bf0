"""Looking around the steps of a run at which a probe is due, and recording what was seen.

    before the step: look(moment)  →  the step  →  look goes on  →  a row

A row is {"kind": "probe", "probe": name, "step": updates made, "epoch": ..., and its own fields}.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from ..config import RunConfig
from ..errors import Failed, InputError
from ..meter import Meter
from ..models import has_batch_norm
from ..processes import ALONE, Processes
from ..setup import Plan, Training, losses_of
from .checks import check_workers
from .moment import Moment
from .when import Asked, asked, when

__all__ = ["Probing", "chosen_by"]

log = logging.getLogger("largebatch")
TOGETHER = 1024
"""Examples of a forward pass over many, where nothing couples them."""


class Probing:
    """The probes of one run.

    Args:
        chosen: which, and when.
        config: the run.
        plan: what it will do.
        training: its parts.
        write: appends a row: ``write("probe", **values)``.
        meter: the run's clock, which stands still while a probe looks.
        processes: those that share the run.
        strict: whether a probe that cannot look is an error; else a row says why.
    """

    def __init__(
        self,
        chosen: Sequence[Asked],
        config: RunConfig,
        plan: Plan,
        training: Training,
        write: Callable[..., object],
        meter: Meter,
        processes: Processes = ALONE,
        *,
        strict: bool = False,
    ) -> None:
        """Look at nothing yet."""
        self._strict = strict
        self._chosen = chosen
        self._config = config
        self._plan = plan
        self._training = training
        self._write = write
        self._meter = meter
        self._processes = processes

    @contextmanager
    def around(self, step: int, x: Tensor, y: Tensor) -> Iterator[None]:
        """Around step ``step`` on the batch ``x``, ``y``: its combine and its optimizers' step."""
        due = [each.probe for each in self._chosen if each.when.due(step, self._plan)]
        if not due:
            yield
            return
        moment = self._moment(step, x, y)
        looks = {kind.name: kind.look(moment) for kind in due}
        rows = {name: self._seen(name, step, partial(_begun, look)) for name, look in looks.items()}
        yield
        for name, look in looks.items():
            # What could not begin cannot end.
            row = rows[name] or self._seen(name, step, partial(_ended, look))
            self._processes.first(
                self._write, "probe", probe=name, step=step, epoch=moment.epoch, **row
            )

    def _seen(self, name: str, step: int, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was seen, or why nothing was: a run does not end for a probe that cannot look."""
        try:
            with self._meter.paused():
                return do()
        except (ValueError, TypeError, RuntimeError) as error:
            if self._strict:
                raise Failed(f"probe {name} at step {step}: {error}") from error
            log.warning("probe %s at step %d: %s", name, step, error)
            return {"error": str(error)}

    def _moment(self, step: int, x: Tensor, y: Tensor) -> Moment:
        plan, training, config = self._plan, self._training, self._config
        loss_fn, model = training.loss, training.model
        try:
            losses = losses_of(plan.task)
        except InputError:
            losses = None
        return Moment(
            step=step,
            epoch=plan.epochs(step),
            seed=config.seed,
            lr=float(training.schedulers[0].get_last_lr()[0]),
            model=model,
            loss=lambda inputs, targets: loss_fn(model(inputs), targets),
            losses=losses and (lambda inputs, targets: losses(model(inputs), targets)),
            task=plan.task,
            batch=(x, y),
            train=plan.split.train,
            workers=training.workers,
            optimizers=training.optimizers,
            worker_size=config.worker_size,
            chunk=config.worker_size
            if has_batch_norm(model)
            else max(TOGETHER, config.worker_size),
            few=config.refresh_examples,
        )


def chosen_by(config: RunConfig, processes: Processes = ALONE) -> list[Asked]:
    """The probes that a run asks for.

    Raises:
        InputError: one is not there, needs more workers than there are or all of them in one
            process; no such WHEN.
    """
    chosen = [asked(each) for each in config.probes]
    if config.keep:
        when(config.keep)
    check_workers(chosen, config, processes.ranks)
    return chosen


def _begun(look: Generator[None, None, object]) -> dict[str, Any]:
    next(look)
    return {}


def _ended(look: Generator[None, None, object]) -> dict[str, Any]:
    """The fields of what a look returns after its one yield."""
    try:
        next(look)
    except StopIteration as stop:
        found: Any = stop.value
        return dataclasses.asdict(found)
    raise AssertionError("a look yields once")
