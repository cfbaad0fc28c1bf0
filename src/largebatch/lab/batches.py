"""The order of a run's examples, and what chance does to them: named by (seed, epoch or step)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from largebatch.seeding import generator, key

from .config import RunConfig
from .setup import Plan

__all__ = ["batches"]

ORDER, AUGMENT = 1, 2  # name the two kinds of draws


def batches(
    config: RunConfig, plan: Plan, first: int, names: Sequence[int] = ()
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (step, inputs, targets) from step ``first`` to the run's last.

    The order depends on (seed, epoch), augmentation on (seed, step): methods that are compared see
    the same batches, and a resumed run goes on with those it would have seen. torch's global
    generator, which dropout draws from, is set for every step likewise, by ``names`` too: those of
    one of several processes, each of which takes its share of the whole batch.
    """
    inputs, targets = plan.split.train
    order, epoch_of_order = torch.empty(0), -1
    for step in range(first, plan.steps):
        epoch, place, size = plan.at(step)
        if epoch != epoch_of_order:
            shuffle = generator("cpu", config.seed, ORDER, epoch)
            order = torch.randperm(len(inputs), generator=shuffle).to(inputs.device)
            epoch_of_order = epoch
        chosen = order[place : place + size]
        x, y = inputs[chosen], targets[chosen]
        if plan.augment is not None:
            x = plan.augment(x, generator(x.device, config.seed, AUGMENT, step))
        _seed_global(x.device, key(config.seed, step, *names))
        yield step, x, y


def _seed_global(device: torch.device, seed: int) -> None:
    # Not torch.manual_seed: until CUDA is started, each call of it formats a stack trace, which
    # costs a small network a twentieth of its step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
