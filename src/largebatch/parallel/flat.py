"""Tensors added up over processes in few messages: those of one kind travel together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .waiting import explained

__all__ = ["add_up"]

# As much as DDP puts in one of its buckets; a copy of that size is made.
MESSAGE_BYTES = 25 * 2**20


@torch.no_grad()
def add_up(tensors: Sequence[Tensor], group: Any) -> None:
    """Replace each tensor by its sum over the processes of ``group``, in place.

    Every process must give tensors of the same shapes and dtypes in the same order.
    """
    for message in _messages(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in message])
        with explained(group):
            torch.distributed.all_reduce(flat, group=group)
        pieces = torch.split(flat, [tensor.numel() for tensor in message])
        for tensor, piece in zip(message, pieces, strict=True):
            tensor.copy_(piece.view(tensor.shape))


def _messages(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of one dtype and device, none much larger than a message may be."""
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    for alike in kinds.values():
        message: list[Tensor] = []
        size = 0
        for tensor in alike:
            message.append(tensor)
            size += tensor.numel() * tensor.element_size()
            if size >= MESSAGE_BYTES:
                yield message
                message, size = [], 0
        if message:
            yield message
