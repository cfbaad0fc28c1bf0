"""What Workers and its methods take of a step apart from forward and backward, and of memory.

Gradients are handed over, not computed: what is left is entering a worker, moving the weights,
keeping what is remembered, and combining. A step of ResNet-20 hides that in its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timing import in_turns, medians
from torch import Tensor, nn

import largebatch as lb

__all__ = ["Given", "held", "overheads"]


def nothing() -> None:
    """Where a way has nothing to add."""


@dataclass(frozen=True)
class Given:
    """A step to be timed: `loss` runs in each pass, `finish` after combine."""

    workers: lb.Workers
    loss: Callable[[], object] = nothing
    finish: Callable[[], object] = nothing

    @property
    def passes(self) -> int:
        """Of each worker, in a step."""
        perturb = self.workers.perturb
        return 1 if perturb is None else perturb.passes(0)


def overheads(
    ways: Mapping[str, Given],
    rounds: int,
    device: str = "cpu",
    loss: Callable[[], object] = nothing,
) -> dict[str, float]:
    """Microseconds a worker, beyond `loss` and the handing over of a gradient in each pass.

    Every way has the same network.
    """
    some = next(iter(ways.values())).workers
    given = [torch.randn_like(p) for p in some.model.parameters()]

    def step(way: Given) -> None:
        for _ in range(some.count * way.passes):
            with way.workers.next():
                hand_over(way.workers.model, given)
                way.loss()
        way.workers.combine()
        way.finish()

    def only_hand_over() -> None:
        for _ in range(some.count):
            hand_over(some.model, given)
            loss()

    steps: dict[str, Callable[[], object]] = {n: _bound(step, way) for n, way in ways.items()}
    assert "" not in steps  # the name of what is subtracted
    spent = medians(in_turns({**steps, "": only_hand_over}, rounds, device=device))
    return {n: (spent[n] - way.passes * spent[""]) / some.count * 1e6 for n, way in ways.items()}


def _bound(step: Callable[[Given], None], way: Given) -> Callable[[], None]:
    return lambda: step(way)


def hand_over(model: nn.Module, gradients: list[Tensor]) -> None:
    """As a backward pass leaves them: tensors of their own."""
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()


def held(workers: lb.Workers) -> int:
    """Bytes that Workers holds at this moment beyond the model's: what its parts refer to.

    Views of one storage count once. Measured within a pass, where activations need room too.
    """
    model = [*workers.model.parameters(), *workers.model.buffers()]
    theirs = {tensor.untyped_storage().data_ptr() for tensor in model}
    found: dict[int, int] = {}
    seen: set[int] = set()
    waiting: list[Any] = [workers]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, nn.Module | torch.optim.Optimizer):
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            found[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
        elif isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
        elif type(each).__module__.startswith("largebatch."):
            waiting += vars(each).values()
    return sum(size for place, size in found.items() if place not in theirs)
