"""Batches whose size a schedule decides: one permutation an epoch, cut where the schedule says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from .. import seeding
from ..whole import check_whole
from .caller import users_level
from .plan import Data, Plan, Planned
from .position import Position
from .shares import Shares

__all__ = ["BatchSizeSampler"]


class BatchSizeSampler(Sampler[list[int]]):
    """Lists of indices for a DataLoader's ``batch_sampler``; made by ``schedule.sampler(...)``.

    An iterator begins at the batch that the schedule's step() has come to, and ends with the epoch:
    after a resume it yields the rest of the epoch, then whole ones. The order of an epoch's
    examples is named by (seed, epoch) alone. Each global batch is cut into one contiguous part a
    replica.

    Example:
        >>> import largebatch.batching as batching
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        >>> course = batching.Stages({0: 2, 4: 4}, key="examples")
        >>> schedule = batching.BatchSizeSchedule(optimizer, course, base_batch=2)
        >>> for indices in schedule.sampler(8, shuffle=False):
        ...     optimizer.step(); schedule.step()
        ...     print(indices)
        [0, 1]
        [2, 3]
        [4, 5, 6, 7]
    """

    def __init__(self, plan: Plan, data: Data, shares: Shares, rank: int) -> None:
        """Check what is this process's own; see ``BatchSizeSchedule.sampler``."""
        check_whole("length", data.length)
        if check_whole("rank", rank, least=0) >= shares.num_replicas:
            raise ValueError(f"rank must be below num_replicas={shares.num_replicas}, got {rank}")
        self._plan, self._data, self._shares, self._rank = plan, data, shares, rank
        self._ended: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the schedule knows the epoch. Loops call it on any sampler that has it."""

    def __len__(self) -> int:
        """Lists of the present epoch, those that are done included, as things stand.

        Loops that count the batches of an interrupted epoch from its start (Lightning's) compare
        their count with this.
        """
        here = self._plan.next.position
        left = sum(self.micro_batches(each) for each in self._plan.left())
        if self._shares.micro_batch is None:
            return here.batch + left
        return here.place // self._shares.num_replicas // self._shares.micro_batch + left

    def micro_batches(self, planned: Planned) -> int:
        """How many lists make a step."""
        size = self._shares.micro_batch
        return 1 if size is None else self._share(planned) // size

    def _share(self, planned: Planned) -> int:
        return planned.examples // self._shares.num_replicas

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the lists that are left in the epoch."""
        start = self._plan.next.position
        if self._ended == start.epoch:
            _warn_behind(start)
        order = self._order(start.epoch)
        step = start.step
        while (planned := self._plan.at(step)).position.epoch == start.epoch:
            share = self._share(planned)
            place = planned.position.place + self._rank * share
            size = self._shares.micro_batch or share
            for first in range(place, place + share, size):
                yield order[first : first + size].tolist()
            step += 1
        self._ended = start.epoch

    def _order(self, epoch: int) -> torch.Tensor:
        if not self._data.shuffle:
            return torch.arange(self._data.length)
        generator = seeding.generator("cpu", self._data.seed, epoch)
        return torch.randperm(self._data.length, generator=generator)


def _warn_behind(start: Position) -> None:
    warnings.warn(
        f"epoch {start.epoch} was handed out to its end, but schedule.step() has come to its batch "
        f"{start.batch} only: the rest comes again. That is as it should be where the loop left "
        "the epoch early and its loader had read ahead; else call step() for every batch, also "
        "where a loss scaler has skipped the optimizer's",
        UserWarning,
        stacklevel=users_level(),
    )
