"""A batch that grows over a run: which examples each step has, and what moves with its size."""

from __future__ import annotations

import itertools
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from largebatch.batching import BatchSizeSchedule, Stages
from largebatch.batching.plan import Data, Plan, Planned
from largebatch.batching.shares import Shares

from .config import BatchesConfig, RunConfig
from .errors import InputError
from .processes import Processes

__all__ = ["doubling", "growing", "steps_of"]


def doubling(first: int, last: int, epochs: int) -> BatchesConfig:
    """Twice the batch at even intervals, from ``first`` to below ``last``, which has the rest.

    Example:
        >>> doubling(64, 512, epochs=40)
        BatchesConfig(sizes=(64, 128, 256), until=(10.0, 20.0, 30.0), rule='kind')
    """
    sizes = tuple(itertools.takewhile(lambda n: n < last, (first << i for i in range(64))))
    each = epochs / (len(sizes) + 1)
    return BatchesConfig(sizes, tuple(each * (i + 1) for i in range(len(sizes))))


def steps_of(config: RunConfig, examples: int) -> tuple[Planned, ...]:
    """Every step of a run whose batch grows: where it begins, and its size.

    Raises:
        InputError: sizes that the workers or the examples cannot make up.
    """
    plan = Plan(_course(config))
    try:
        data = Data(examples, seed=0, shuffle=True, drop_last=config.drop_last)
        plan.attach(data, Shares(worker_size=config.worker_size))
    except ValueError as error:
        raise InputError(f"batches.sizes={list(config.batches.sizes)}: {error}") from error
    found = []
    while plan.next.position.epoch < config.epochs:
        found.append(plan.next)
        plan.advance()
    return tuple(found)


def growing(
    config: RunConfig,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    workers: Any,
    examples: int,
    processes: Processes,
) -> BatchSizeSchedule:
    """The scheduler that moves the rate, and what goes with it, as the batch grows.

    ``config.lr`` and ``scheduler`` are of the first size, by whose batches time is counted.
    """
    try:
        made = BatchSizeSchedule(
            optimizer,
            _course(config),
            base_batch=config.batches.sizes[0],
            scheduler=scheduler,
            rule=None if config.batches.rule == "kind" else config.batches.rule,
            workers=workers,
            worker_size=None if workers is None else config.worker_size,
        )
    except ValueError as error:
        raise InputError(f"{error}; here batches.rule says it") from error
    # Which the run does not ask: it has planned every step before.
    made.sampler(examples, num_replicas=processes.ranks, rank=processes.rank)
    return made


def _course(config: RunConfig) -> Stages:
    starts = (0.0, *config.batches.until)
    return Stages(
        dict(zip(starts, (*config.batches.sizes, config.batch_size), strict=True)), "epochs"
    )
