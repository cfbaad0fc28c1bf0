"""Perturbed inside, clean outside: weights and running statistics around one worker's pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .parallel import Processes

__all__ = ["CleanWeights", "RunningStatistics"]


class CleanWeights:
    """Adds offsets to weights for the length of a pass and restores the weights by copying.

    Subtracting the offset again would not give the same bits. The copy is kept between passes:
    one more copy of the parameters that are perturbed, and none where nothing is.
    """

    def __init__(self) -> None:
        """Start without a copy."""
        self._copies: dict[int, Tensor] = {}  # by the weight's place in the list

    @contextmanager
    def moved(self, weights: Sequence[Tensor], offsets: Sequence[Tensor | None]) -> Iterator[None]:
        """Within, ``weights[j]`` is ``weights[j] + offsets[j]``; after, bit for bit as before."""
        places = [j for j, offset in enumerate(offsets) if offset is not None]
        added = [offset for offset in offsets if offset is not None]
        if not places:
            yield
            return
        moving = [weights[j].detach() for j in places]
        copies = [self._copy_for(j, weights[j]) for j in places]
        torch._foreach_copy_(copies, moving)
        try:
            torch._foreach_add_(moving, added)
            del added, offsets  # a copy of the model that the pass itself has no use for
            yield
        finally:
            torch._foreach_copy_(moving, copies)

    def _copy_for(self, j: int, weight: Tensor) -> Tensor:
        copy = self._copies.get(j)
        if copy is None or (copy.shape, copy.dtype, copy.device) != (
            weight.shape,
            weight.dtype,
            weight.device,
        ):
            copy = self._copies[j] = torch.empty_like(weight, requires_grad=False)
        return copy


class RunningStatistics:
    """Batch norm's running statistics: every worker starts from the step's, the mean is kept.

        left = start + (1/M) sum_i (left_i - start)

    Written as a mean of differences so that a layer that nobody updated keeps its exact bits.
    Whatever has ``running_mean`` and ``running_var`` tensors counts. Integer counters end as the
    last worker leaves them (each counts one batch).
    """

    def __init__(self, model: nn.Module) -> None:
        """Remember the model; its buffers are looked up anew at every step."""
        self._model = model
        self._counters: list[Tensor] = []
        self._buffers: list[Tensor] = []
        self._start: list[Tensor] = []
        self._counter_start: list[Tensor] = []
        self._counter_left: list[Tensor] = []
        self._moved: list[Tensor] = []

    @torch.no_grad()
    def begin_step(self) -> None:
        """Take the present values as the step's start."""
        # Not once for all: moving or casting a module gives it new buffers.
        self._find()
        self._start = [b.clone() for b in self._buffers]
        self._counter_start = [c.clone() for c in self._counters]
        self._counter_left = [c.clone() for c in self._counters]
        self._moved = [torch.zeros_like(b) for b in self._buffers]

    def _find(self) -> None:
        self._buffers, self._counters = [], []
        for module in self._model.modules():
            mean, var = _held(module, "running_mean"), _held(module, "running_var")
            if isinstance(mean, Tensor) and isinstance(var, Tensor):
                self._buffers += [mean, var]
                counter = _held(module, "num_batches_tracked")
                self._counters += [counter] if isinstance(counter, Tensor) else []

    @torch.no_grad()
    def to_start(self) -> None:
        """Put the step's start back, before a pass or after one that does not count."""
        _copy(self._buffers, self._start)
        _copy(self._counters, self._counter_start)

    @torch.no_grad()
    def collect(self) -> None:
        """Add what a worker left to the mean, then go back to the start."""
        if self._buffers:
            torch._foreach_sub_(self._buffers, self._start)
            torch._foreach_add_(self._moved, self._buffers)
        _copy(self._counter_left, self._counters)
        self.to_start()

    @torch.no_grad()
    def end_step(self, workers: int | Tensor, processes: Processes) -> None:
        """Leave start + mean of the differences over the ``workers`` workers of all processes."""
        if self._buffers:
            processes.add_up_everywhere(self._moved)
            torch._foreach_div_(self._moved, workers * processes.pieces)
            torch._foreach_add_(self._buffers, self._moved)
        _copy(self._counters, self._counter_left)
        processes.settle_buffers(self._buffers)


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)


def _held(module: nn.Module, name: str) -> object:
    # Not getattr: where there is none, a module searches long and raises, once for each at a step.
    return module._buffers.get(name, vars(module).get(name))
