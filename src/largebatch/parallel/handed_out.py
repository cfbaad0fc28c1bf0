"""Gradients as FSDP2 hands them out in a backward pass, added up over the replicas as they come.

    p.grad of one group of parameters: views of one buffer → join → all-reduce of that buffer

The sum starts when the next group's gradients come, so that it overlaps with the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..mesh import local, placed
from .processes import SECOND, Join, Piece
from .waiting import explained

__all__ = ["HandedOut", "Message"]


@dataclass(frozen=True, eq=False)
class Message:
    """What one group's gradients were sent in, to be sent again when there are none.

    Attributes:
        parameters: whose gradients they are.
        places: shape, stride and start in the buffer of each.
        length: elements of the buffer.
        kind: the buffer's dtype and device.
    """

    parameters: Sequence[Tensor]
    places: Sequence[tuple[torch.Size, tuple[int, ...], int]]
    length: int
    kind: tuple[torch.dtype, torch.device]

    def zeros(self) -> list[Tensor]:
        """Gradients of zero that lie as those did."""
        dtype, device = self.kind
        buffer = torch.zeros(self.length, dtype=dtype, device=device)
        return [torch.as_strided(buffer, *place) for place in self.places]


class HandedOut:
    """Takes the gradients of one backward pass, and sends what has come in one buffer.

    Attributes:
        messages: what was sent, or without ``join`` would have been.
    """

    def __init__(self, join: Join | None, group: Any) -> None:
        """Nothing has come; ``group`` are the replicas' processes."""
        self.messages: list[Message] = []
        self._join = join
        self._group = group
        self._run: list[tuple[Tensor, Tensor]] = []  # parameters and their gradients
        self._came: set[int] = set()
        self._works: list[Any] = []

    @contextmanager
    def listening(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Within, hear of every gradient."""
        handles = [
            each.register_post_accumulate_grad_hook(self.came)  # type: ignore[no-untyped-call]
            for each in parameters
            if each.requires_grad
        ]
        try:
            yield
            self._send()
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def came(self, parameter: Tensor) -> None:
        """A parameter's gradient is there."""
        if id(parameter) in self._came:
            self._again()
        self._came.add(id(parameter))
        assert parameter.grad is not None
        gradient = local(parameter.grad)
        if gradient.device.type == "cpu" and torch.accelerator.is_available():
            # CPUOffloadPolicy's copy, of which older torch (2.11) tells while it is under way.
            torch.accelerator.current_stream().synchronize()
        if self._run and _memory(self._run[0][1]) != _memory(gradient):
            self._send()
        self._run.append((parameter, gradient))

    def _again(self) -> None:
        if self._join is not None:
            raise RuntimeError(SECOND)
        self.messages, self._run, self._came = [], [], set()

    @torch.no_grad()
    def came_as_zeros(self, message: Message) -> None:
        """What of a message has not come is there now, and zero."""
        for parameter, gradient in zip(message.parameters, message.zeros(), strict=True):
            if id(parameter) not in self._came:
                parameter.grad = placed(gradient, parameter)
                self.came(parameter)

    def finish(self) -> None:
        """Send the rest, and wait for all."""
        self._send()
        if not self.messages:
            raise RuntimeError(
                "FSDP has reduced no gradient in the step's last pass: call the model to which "
                "fully_shard was applied, and loss.backward() once, within the worker's `with` "
                "block"
            )
        with explained(self._group):
            for work in self._works:
                work.wait()

    @torch.no_grad()
    def _send(self) -> None:
        if not self._run:
            return
        parameters, gradients = (list(each) for each in zip(*self._run, strict=True))
        self._run = []
        starts = [int(gradient.storage_offset()) for gradient in gradients]
        first = min(starts)
        end = max(s + g.numel() for s, g in zip(starts, gradients, strict=True))
        buffer = torch.as_strided(gradients[0], (end - first,), (1,), first)
        pairs = zip(gradients, starts, strict=True)
        places = [(g.shape, g.stride(), start - first) for g, start in pairs]
        kind = buffer.dtype, buffer.device
        self.messages.append(Message(parameters, places, end - first, kind))
        if self._join is None:
            return
        self._join(Piece(parameters, gradients, buffer))
        if buffer.numel():
            with explained(self._group):
                work = torch.distributed.all_reduce(buffer, group=self._group, async_op=True)
            self._works.append(work)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
