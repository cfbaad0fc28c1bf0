"""Whether a run can be looked at as asked: said before it begins, not when its step comes."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import RunConfig
from ..errors import InputError
from ..methods import RunFacts, parse
from ..setup import Plan, losses_of
from .when import Asked

__all__ = ["check_looks", "check_workers"]


def check_workers(chosen: Sequence[Asked], config: RunConfig, ranks: int = 1) -> None:
    """Check probes against the workers of a step.

    Args:
        chosen: which.
        config: the run.
        ranks: processes that share the run.

    Raises:
        InputError: one needs more workers than there are, or all of them in one process.
    """
    for each in chosen:
        if config.count < each.probe.least_workers:
            raise InputError(
                f"probe {each.probe.name} needs at least {each.probe.least_workers} workers in a "
                f"step, a batch of {config.smallest_batch} over worker_size={config.worker_size} "
                f"gives {config.count}: choose a smaller worker_size, or leave it out"
            )
        if each.probe.alone and ranks > 1:
            raise InputError(
                f"probe {each.probe.name} needs all of a step's workers in one process, there "
                f"are {ranks}: leave it out, or start the run in one"
            )


def check_looks(
    chosen: Sequence[Asked], config: RunConfig, plan: Plan, steps: Sequence[int] | None = None
) -> None:
    """Check probes against the run's method and its task.

    Args:
        chosen: which, and when.
        config: the run.
        plan: what it does.
        steps: those that are looked at; None for all of the run's.

    Raises:
        InputError: where workers look is not known before a step that one looks at; the task does
            not say the loss of each example.
    """
    for each in chosen:
        if each.probe.each_loss:
            _check_losses(each, plan)
        if each.probe.one_pass:
            _check_passes(each, config, plan, range(plan.steps) if steps is None else steps)


def _check_losses(asked: Asked, plan: Plan) -> None:
    try:
        losses_of(plan.task)
    except InputError as error:
        raise InputError(f"probe {asked.probe.name}: {error}") from error


def _check_passes(asked: Asked, config: RunConfig, plan: Plan, steps: Sequence[int]) -> None:
    perturb = parse(config.method).built(config.alpha, RunFacts(config.seed, plan.step_at)).perturb
    if perturb is None:
        return
    for step in steps:
        if perturb.passes(step) > 1 and asked.when.due(step, plan):
            raise InputError(
                f"probe {asked.probe.name} stands where workers will look, which method "
                f"{config.method!r} finds out within step {step} only, by a first pass: leave the "
                "probe out"
            )
