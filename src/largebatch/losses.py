"""What a loss is: one number, with a graph behind it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["one_number"]


def one_number(loss: Any) -> Tensor:
    """The loss as a 0-dim tensor; anything but one number is an error."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"fn must return the loss as one number in a tensor, got {found}")
    return loss.reshape(())
