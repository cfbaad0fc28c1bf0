"""One evaluation of a loss that leaves the random state as it was, and what it must give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..losses import one_number
from ..seeding import kept_random_state

__all__ = ["LossFn", "check_reached", "evaluated", "full_precision"]

LossFn = Callable[[], Tensor]


@contextmanager
def evaluated(fn: LossFn, parameters: Sequence[Tensor]) -> Iterator[Tensor]:
    """Within, the loss with its graph, and the random numbers of its backward pass; after, neither.

    Random numbers are those that would come next, and after it they still would: two evaluations
    see the same dropout.
    """
    with kept_random_state(parameters), torch.enable_grad():
        loss = one_number(fn())
        if not loss.requires_grad:
            raise ValueError(
                "fn must return a loss that depends on the parameters, got one without a graph: "
                "do not detach it, nor compute it under torch.no_grad()"
            )
        yield loss


@contextmanager
def full_precision(
    fn: Callable[..., Tensor], device: torch.device
) -> Iterator[Callable[..., Tensor]]:
    """Within, autocast is off but for the loss: what it is now stays with the fn that is given."""
    kind = device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def as_it_was(*batch: Any) -> Tensor:
        with torch.autocast(kind, dtype=dtype, enabled=enabled):
            return fn(*batch)

    with torch.autocast(kind, enabled=False):
        yield as_it_was


def check_reached(gradients: Sequence[Tensor | None]) -> None:
    """Raise where no parameter got a gradient."""
    if all(gradient is None for gradient in gradients):
        raise ValueError(
            f"the loss reaches none of the {len(gradients)} parameters: give those of the module "
            "that fn calls; FSDP2's are reached by method='differences' only"
        )
