"""One update of a run: what methods want to see beforehand, the workers, the optimizers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import largebatch as lb

from .config import RunConfig
from .processes import Processes
from .setup import Training

__all__ = ["refresh_if_due", "take_step"]


def refresh_if_due(
    config: RunConfig, training: Training, step: int, inputs: Tensor, targets: Tensor
) -> None:
    """Show the loss to a method that needs more of it than its gradient, every so many steps."""
    workers = training.workers
    if workers.refreshes and step % config.refresh_every == 0:
        # Every process looks at the same examples: parts of them would have statistics of
        # their own in batch norm, and other small batches.
        seen = config.refresh_examples
        workers.refresh(_loss_of(training), inputs[:seen], targets[:seen])


def take_step(
    training: Training, processes: Processes, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, float]:
    """Every worker's pass, their mean and an update; the batch's loss and the rate it went by."""
    inner = _looked_on(training.workers, processes, inputs, targets)
    loss = training.workers.backward(
        _loss_of(training), *processes.share(inputs, targets), inner=inner
    )
    rate = float(training.schedulers[0].get_last_lr()[0])
    for optimizer, scheduler in zip(training.optimizers, training.schedulers, strict=True):
        optimizer.step()
        scheduler.step()
    return loss, rate


def _loss_of(training: Training) -> Callable[[Tensor, Tensor], Tensor]:
    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        return training.loss(training.workers.model(inputs), targets)

    return loss_of


def _looked_on(
    workers: lb.Workers, processes: Processes, x: Tensor, y: Tensor
) -> tuple[Tensor, ...] | None:
    """The next workers' examples, for a method that looks there: some are another process's."""
    perturb = workers.perturb
    if processes.ranks == 1 or perturb is None or not perturb.elsewhere(workers.step):
        return None
    size = len(x) // (processes.ranks * workers.count)
    return processes.share(*(torch.cat((each[size:], each[:size])) for each in (x, y)))
