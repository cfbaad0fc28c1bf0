"""What a batch-size schedule accepts, checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..whole import check_whole
from .course import Course
from .kinds import KINDS, MOVES, RULES, Rule, kind_of

__all__ = ["check_clock", "check_parts", "check_workers", "one_number", "rule_and_moves"]

_CLOCKS = ("examples", "steps", "epochs")


def check_parts(optimizer: object, course: object, scheduler: object) -> None:
    """Raise TypeError or ValueError for parts that cannot work together.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        >>> check_parts(sgd, {0: 32}, None)
        Traceback (most recent call last):
        TypeError: course must be a Course such as Stages({0: 32}, key="epochs"), got {0: 32}
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"BatchSizeSchedule needs a torch.optim.Optimizer, got {type(optimizer).__name__}: "
            "of several optimizers, each has a schedule of its own"
        )
    if not isinstance(course, Course):
        raise TypeError(
            f'course must be a Course such as Stages({{0: 32}}, key="epochs"), got {course!r}'
        )
    if scheduler is not None:
        _check_scheduler(optimizer, scheduler)


def check_clock(clock: str, warmup_steps: int) -> None:
    """Raise ValueError for a clock that there is not, or that has no warm-up.

    Example:
        >>> check_clock("tokens", 0)
        Traceback (most recent call last):
        ValueError: clock must be one of 'examples', 'steps', 'epochs', got 'tokens'
    """
    if clock not in _CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(map(repr, _CLOCKS))}, got {clock!r}")
    if warmup_steps and clock != "examples":
        raise ValueError(
            f"warmup_steps={warmup_steps} needs clock='examples', got {clock!r}: the other clocks "
            "do not follow the batch anyway"
        )


def _check_scheduler(optimizer: Optimizer, scheduler: object) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(
            "ReduceLROnPlateau wants a loss at each step: leave it out of scheduler= and call "
            "`with schedule.unscaled(): plateau.step(loss)`"
        )
    if hasattr(scheduler, "batch_size") and hasattr(scheduler, "unscaled"):
        raise TypeError(
            "a BatchSizeSchedule cannot be inside another: give one course to one schedule"
        )
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(
            f"scheduler must be a torch.optim.lr_scheduler.LRScheduler, got "
            f"{type(scheduler).__name__}: wrap a function of the step in LambdaLR"
        )
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "scheduler belongs to another optimizer than the BatchSizeSchedule: make both of one"
        )


def check_workers(workers: Any, worker_size: int | None) -> None:
    """Raise where workers and worker_size do not come together."""
    if (workers is None) != (worker_size is None):
        raise ValueError(
            f"workers= and worker_size= go together, got workers={workers!r} and "
            f"worker_size={worker_size!r}: give both, or none"
        )
    if workers is None:
        return
    check_whole("worker_size", worker_size)
    if not hasattr(workers, "count"):
        raise TypeError(
            f"workers must have a count to set, as largebatch.Workers does, got "
            f"{type(workers).__name__}"
        )


def rule_and_moves(
    optimizer: Optimizer, kind: str | None, rule: str | Rule | None, moves: Sequence[str] | None
) -> tuple[Rule, tuple[str, ...]]:
    """The rule of the rate and the options that move: the kind's, where they are None.

    Raises:
        ValueError: a kind, rule or option that there is none of.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        >>> rule_and_moves(sgd, None, "sqrt", None)[1]
        ('lr',)
    """
    if isinstance(rule, str) and rule not in RULES:
        raise ValueError(
            f"rule must be one of {', '.join(map(repr, RULES))}, a function of kappa, or None, "
            f"got {rule!r}"
        )
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    if rule == "none":
        return RULES[rule], ()
    found = KINDS[kind or kind_of(optimizer)]
    chosen = found.moves if moves is None else tuple(moves)
    unknown = [each for each in chosen if each not in MOVES]
    if unknown or isinstance(moves, str):
        raise ValueError(f"moves must be a tuple of {', '.join(map(repr, MOVES))}, got {moves!r}")
    named = found.rule if rule is None else rule
    return (RULES[named] if isinstance(named, str) else named), chosen


def one_number(noise_scale: float | Tensor) -> float | Tensor:
    """A noise scale as it is kept: a copy where it is a tensor, which must have no dimensions.

    Raises:
        TypeError: no number.
        ValueError: several numbers.

    Example:
        >>> one_number(3.0)
        3.0
    """
    if not isinstance(noise_scale, Tensor):
        if isinstance(noise_scale, bool) or not isinstance(noise_scale, Real):
            raise TypeError(
                f"noise_scale must be a number or a tensor of one, got {noise_scale!r}: give the "
                "simple noise scale in examples"
            )
        return float(noise_scale)
    if noise_scale.ndim:
        raise ValueError(
            f"noise_scale must be one number, got a tensor of shape {tuple(noise_scale.shape)}: "
            "average it first"
        )
    return noise_scale.detach().clone()
