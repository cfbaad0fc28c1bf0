"""In which order the passes of a step come: who runs, and whether it counts.

one pass                  1, 2, ..., M
two, scope "worker"       1 looks, 1, 2 looks, 2, ..., M looks, M
two, scope "batch"        1 looks, 2 looks, ..., M looks, 1, 2, ..., M
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .batching import split_batch
from .contracts import Perturbation, Scope

__all__ = ["Order", "Worker", "in_order", "order_of"]


@dataclass(frozen=True)
class Order:
    """The passes of a step on this process.

    Attributes:
        count: local workers.
        passes: of each worker.
        scope: what the first of two passes is about.

    Example:
        >>> order = Order(2, 2, "worker")
        >>> [order.at(i) for i in range(order.length)]
        [(0, False), (0, True), (1, False), (1, True)]
    """

    count: int
    passes: int = 1
    scope: Scope = "worker"

    @property
    def length(self) -> int:
        """How many passes a whole step has."""
        return self.count * self.passes

    def at(self, place: int) -> tuple[int, bool]:
        """Which worker the pass number ``place`` is, and whether it counts."""
        if self.passes == 1:
            return place, True
        if self.scope == "worker":
            return place // 2, place % 2 == 1
        return place % self.count, place >= self.count


@dataclass(frozen=True)
class Worker:
    """The pass that is running.

    Attributes:
        index: number of the worker over all processes, from 0.
        counts: False in a pass that only looks, whose loss is not the step's.
        last: whether the caller said that it is the step's last pass here.
    """

    index: int
    counts: bool = True
    last: bool | None = None


def order_of(perturb: Perturbation | None, step: int, count: int) -> Order:
    """The order that a perturbation asks for at a step."""
    if perturb is None:
        return Order(count)
    return Order(count, perturb.passes(step), perturb.scope(step))


def in_order(
    order: Order, batch: tuple[Any, ...], inner: tuple[Any, ...] | None, elsewhere: bool
) -> Iterator[tuple[Any, ...]]:
    """The shards of a batch, one for each pass.

    Args:
        order: the passes.
        batch: what is shared out among the workers.
        inner: another batch, for the passes that look; None for the same.
        elsewhere: whether, without another batch, a worker looks on the next one's shard.

    Example:
        >>> import torch
        >>> [x.tolist() for (x,) in in_order(Order(2, 2), (torch.arange(4),), None, True)]
        [[2, 3], [0, 1], [0, 1], [2, 3]]
    """
    pieces = split_batch(batch, order.count)
    if order.passes == 1:
        return pieces
    own = looks = list(pieces)
    if inner is not None:
        looks = list(split_batch(inner, order.count))
    elif elsewhere:
        looks = own[1:] + own[:1]
    places = (order.at(place) for place in range(order.length))
    return ((own if counts else looks)[worker] for worker, counts in places)
