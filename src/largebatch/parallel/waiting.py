"""Waiting for other processes: at the group's time limit an error says what it was for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["WaitedInVain", "explained"]


class WaitedInVain(RuntimeError):
    """Another process did not come: it has failed, ended, or is elsewhere."""


@contextmanager
def explained(group: Any) -> Iterator[None]:
    """Say who waited for what where a wait for the processes of ``group`` ends in an error.

    Raises:
        WaitedInVain: instead of torch.distributed's, which names neither.
    """
    try:
        yield
    except RuntimeError as error:
        rank, ranks = (
            f(group) for f in (torch.distributed.get_rank, torch.distributed.get_world_size)
        )
        raise WaitedInVain(
            f"rank {rank} of {ranks} waited for the other processes in vain: did one end early, "
            f"fail, or run fewer steps? ({error})"
        ) from error
