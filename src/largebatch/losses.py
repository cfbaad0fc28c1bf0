"""What a loss is, one number with a graph behind it, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler

__all__ = ["backward", "one_number"]


def one_number(loss: Any) -> Tensor:
    """The loss as a 0-dim tensor; anything but one number is an error."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"fn must return the loss as one number in a tensor, got {found}")
    return loss.reshape(())


def backward(
    fn: Callable[..., Tensor], batch: tuple[Any, ...], scaler: GradScaler | None
) -> Tensor:
    """Add the loss's gradient to ``p.grad``, scaled where there is a scaler.

    Returns:
        The loss, detached and not scaled, shape (1,).
    """
    loss = one_number(fn(*batch))
    (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
    return loss.detach().reshape(1)
