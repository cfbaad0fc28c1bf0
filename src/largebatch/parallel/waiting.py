"""Waiting for other processes: at the group's time limit an error says what it was for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["WaitedInVain", "explained", "explained_anywhere"]


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
        raise _explanation(group, error) from error


@contextmanager
def explained_anywhere(group: Any) -> Iterator[None]:
    """The same around what is not all waiting: errors of other kinds stay as they are.

    Raises:
        WaitedInVain: instead of torch.distributed's.
    """
    try:
        yield
    except WaitedInVain:
        raise
    except RuntimeError as error:
        # Gloo's own have no class; those of other backends have.
        if isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error):
            raise _explanation(group, error) from error
        raise


def _explanation(group: Any, error: RuntimeError) -> WaitedInVain:
    rank, ranks = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
    return WaitedInVain(
        f"rank {rank} of {ranks} waited for the other processes in vain: did one end early, "
        f"fail, or run fewer steps? ({error})"
    )
