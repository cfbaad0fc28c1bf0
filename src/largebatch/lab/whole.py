"""Gradient descent on all training examples at once: a batch of N, in equal workers that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .config import RunConfig
from .setup import load_task
from .tasks import split

__all__ = ["full_batch"]

LARGEST, SMALLEST = 1024, 32
"""Examples of a worker: as many as divide N, up to the largest; below the smallest, all N."""


def full_batch(config: RunConfig, data_dir: Path | None) -> RunConfig:
    """The configuration with all of the split's training examples as its batch.

    With noise on the gradient it is the simulated SGD of "Even larger batch size with additive
    gradient noise", Section 6. Batch norm sees a worker's examples at a time.
    """
    task, data = load_task(config.task, data_dir)
    found = split(data, config.split, validation=task.validation, train_size=config.train_size)
    examples = len(found.train[0])
    return replace(config, batch_size=examples, worker_size=_worker(examples))


def _worker(examples: int) -> int:
    sizes = range(min(LARGEST, examples), SMALLEST - 1, -1)
    return next((size for size in sizes if examples % size == 0), examples)
