"""One step of a run, as a probe may look at it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

import largebatch as lb

from ..tasks import Task

__all__ = ["Look", "Moment"]


@dataclass(frozen=True)
class Moment:
    """The step that is about to run.

    Attributes:
        step: its number, from 0: so many updates have been made.
        epoch: passes over the training examples so far.
        seed: the run's.
        lr: the step's learning rate.
        model: the network; of several processes this one's replica.
        loss: the mean loss of inputs and targets at the present weights.
        losses: the loss of each example instead; None where the task does not say it.
        batch: the step's inputs and targets, of all workers, augmented.
        task: what is trained, with its score.
        train: all training inputs and targets, not augmented.
        workers: the step's workers; ``workers.at(i)`` stands where one will look.
        optimizers: those that step the model.
        worker_size: examples of one worker.
        chunk: examples of one forward pass over more than a worker's: with batch norm, which sees
            them together, as many as a worker has.
        few: examples that the graph of a second backward pass may hold.
    """

    step: int
    epoch: float
    seed: int
    lr: float
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    losses: Callable[[Tensor, Tensor], Tensor] | None
    task: Task
    batch: tuple[Tensor, Tensor]
    train: tuple[Tensor, Tensor]
    workers: lb.Workers
    optimizers: tuple[Optimizer, ...]
    worker_size: int
    chunk: int
    few: int


Look = Callable[[Moment], Generator[None, None, object]]
"""What comes before its one ``yield`` looks before the step, at its weights; what comes after, when
gradients are combined (they stay in ``p.grad``) and optimizers have stepped. Returns a dataclass.
"""
