"""Where workers live: in one process, one after another, or in each of DDP's processes."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .processes import OneProcess, Piece, Processes
from .refuse import check_model, check_wrapper
from .tally import Tally

__all__ = ["OneProcess", "Piece", "Processes", "Tally", "processes_of"]


def processes_of(model: nn.Module) -> Processes:
    """Read from the model over which processes its workers are spread.

    Raises:
        TypeError, ValueError: a model whose workers cannot be told apart, by name.
    """
    # A compiled DDP model is a wrapper around it.
    original = getattr(model, "_orig_mod", model)
    inner = original if isinstance(original, DistributedDataParallel) else model
    check_model(inner)
    if not isinstance(inner, DistributedDataParallel):
        return OneProcess(inner)
    check_wrapper(inner)
    # Only now: where torch is built without processes, one of them still works.
    from .ddp import Replicas

    return Replicas(inner)
