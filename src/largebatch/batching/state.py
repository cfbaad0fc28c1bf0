"""What a batch-size schedule writes into a checkpoint: plain numbers, lists and strings."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import is_dataclass
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from .clock import Clock
from .course import Course
from .kinds import RULES, Rule
from .plan import Plan
from .values import Values

__all__ = ["identity", "pack", "unpack"]

_FORMAT = 1
# What is in a state beside what names it.
_PARTS = ("data", "ahead", "noise_scale", "ticks", "base", "scheduler")


def identity(
    course: Course, clock: Clock, rule: Rule, scheduler: LRScheduler | None
) -> dict[str, Any]:
    """What must be the same where a run goes on."""
    return {
        "format": _FORMAT,
        # A value's repr says all of it; of another course only the class can be told.
        "course": repr(course) if is_dataclass(course) else type(course).__name__,
        "base_batch": clock.base_batch,
        "clock_kind": clock.kind,
        "warmup_steps": clock.warmup_steps,
        # None is a function of the user's own.
        "rule": next((name for name, each in RULES.items() if each is rule), None),
        "inner": None if scheduler is None else type(scheduler).__name__,
    }


def pack(
    named: dict[str, Any], plan: Plan, clock: Clock, values: Values, scheduler: LRScheduler | None
) -> dict[str, Any]:
    """The state of all parts, copied."""
    inner = None if scheduler is None else deepcopy(scheduler.state_dict())
    parts = {"ticks": clock.ticks, "base": values.state()}
    return {**named, **plan.state(), **parts, "scheduler": inner}


def unpack(
    state: dict[str, Any],
    named: dict[str, Any],
    plan: Plan,
    clock: Clock,
    values: Values,
    scheduler: LRScheduler | None,
) -> None:
    """Take over the state of all parts, or none where it does not fit.

    Raises:
        ValueError: a state of something else, or that lacks something.
    """
    for name, here in named.items():
        if state.get(name, here) != here:
            raise ValueError(
                f"the state is of {name}={state[name]!r}, got {here!r}: make the schedule as "
                "it was, or start anew"
            )
    needed = (*named, *_PARTS)
    missing = [key for key in needed if key not in state]
    if missing:
        raise ValueError(
            f"a BatchSizeSchedule state needs {list(needed)}, but {missing} are missing: load what "
            "state_dict() gave, whole"
        )
    base = values.read(state["base"])
    plan.load(state)
    values.base = base
    clock.ticks = state["ticks"]
    if scheduler is not None:
        scheduler.load_state_dict(deepcopy(state["scheduler"]))
