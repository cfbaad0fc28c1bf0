"""What WorkersCallback refuses, by name, before training starts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..contracts import Perturbation
from ..perturb import Switch
from ..workers import Workers

__all__ = ["check_fit", "check_options", "check_skip", "check_whole", "check_workers", "counts_of"]

FROM_TRAINER = ("model", "optimizer", "count", "scaler", "reduction")


def check_options(options: Mapping[str, Any], refresh_every: int | None) -> None:
    """Raise unless the options are those that Workers has and the trainer does not know."""
    for name in options:
        if name in FROM_TRAINER:
            raise TypeError(
                f"WorkersCallback takes no {name}=: model, optimizer and scaler are the trainer's, "
                "count is its accumulate_grad_batches, and the losses of a group add up to its own"
            )
        if name not in inspect.signature(Workers).parameters:
            raise TypeError(f"WorkersCallback takes the options of Workers, got {name}=")
    whole = isinstance(refresh_every, int) and not isinstance(refresh_every, bool)
    if refresh_every is not None and not (whole and refresh_every > 0):
        raise ValueError(
            f"refresh_every must be a whole number of steps of at least 1, got {refresh_every!r}"
        )


def check_fit(trainer: Any, module: Any) -> None:
    """Raise for manual optimization, or a strategy that hides its workers."""
    if not module.automatic_optimization:
        raise TypeError(
            "WorkersCallback works in automatic optimization only: where training_step steps the "
            "optimizer itself, use largebatch.Workers(self.trainer.strategy.model, optimizer, ...) "
            "there"
        )
    strategy = trainer.strategy
    known = _is_a(strategy, "SingleDeviceStrategy", "DDPStrategy", "ModelParallelStrategy")
    if not known or _is_a(strategy, "DeepSpeedStrategy", "XLAStrategy", "SingleDeviceXLAStrategy"):
        raise TypeError(
            f"WorkersCallback does not support {type(strategy).__name__}: train on one device, "
            "with strategy='ddp', or with ModelParallelStrategy and fully_shard (FSDP2)"
        )


def check_whole(strategy: Any) -> None:
    """Raise for a strategy that leaves it to the module to add gradients up, where it does not."""
    if _is_a(strategy, "ModelParallelStrategy"):
        raise TypeError(
            "the strategy is ModelParallelStrategy, but fully_shard was not applied: in "
            "configure_model, apply it to what holds all parameters, over "
            "self.device_mesh['data_parallel']"
        )


def _is_a(thing: object, *names: str) -> bool:
    """Whether it is of a class of that name, of either of Lightning's two packages."""
    return any(each.__name__ in names for each in type(thing).__mro__)


def counts_of(trainer: Any) -> list[int]:
    """How many micro-batches steps will have: several where a callback changes the number."""
    schedules = [c for c in trainer.callbacks if _is_a(c, "GradientAccumulationScheduler")]
    counts = {count for schedule in schedules for count in schedule.scheduling.values()}
    return sorted(counts or {trainer.accumulate_grad_batches})


def check_workers(workers: Workers, counts: list[int], refresh_every: int | None) -> None:
    """Raise for a method that wants of the loop what it does not have."""
    if workers.refreshes and refresh_every is None:
        raise ValueError(
            f"{workers.perturb or 'the optimizer'} needs to see the loss every so many steps: "
            "WorkersCallback(..., refresh_every=100) shows it every 100"
        )
    for each in _parts(workers.perturb):
        if each.passes(0) == 2:
            _check_looks(each, max(counts))


def _parts(perturb: Perturbation | None) -> list[Perturbation]:
    if isinstance(perturb, Switch):
        return [*_parts(perturb.first), *_parts(perturb.then)]
    return [] if perturb is None else [perturb]


def _check_looks(perturb: Perturbation, count: int) -> None:
    if perturb.elsewhere(0):
        raise TypeError(
            f"{perturb} looks on other examples than the worker's own, which Lightning's loop does "
            "not have: take another kind, or use largebatch.Workers in manual optimization"
        )
    if perturb.scope(0) == "batch" and count > 1:
        raise TypeError(
            f"{perturb} looks at all {count} micro-batches of a step before the first one counts, "
            "but Lightning shows one after another: take per_worker=True, or "
            "accumulate_grad_batches=1"
        )


def check_skip(workers: Workers, looks: bool) -> None:
    """Raise where a micro-batch is left out after a pass that has looked at it."""
    if looks:
        raise RuntimeError(
            f"training_step returned None after {workers.perturb} had looked at its batch: leave "
            "a batch out in both passes or in none"
        )
