"""Where workers live: in one process, in each of DDP's, or in each replica of FSDP2's."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .processes import OneProcess, Piece, Processes
from .refuse import check_model, check_wrapper, is_sharded
from .tally import Tally, Who

__all__ = ["OneProcess", "Piece", "Processes", "Tally", "Who", "is_sharded", "processes_of"]


def processes_of(model: nn.Module) -> Processes:
    """Read from the model over which processes its workers are spread.

    Raises:
        TypeError, ValueError: a model whose workers cannot be told apart, by name.
    """
    # A compiled DDP model is a wrapper around it.
    original = getattr(model, "_orig_mod", model)
    wrapped = isinstance(original, DistributedDataParallel) or is_sharded(original)
    inner = original if wrapped else model
    check_model(inner)
    # What follows is imported late: where torch is built without processes, one still works.
    if is_sharded(inner):
        from .fsdp import ShardedReplicas

        return ShardedReplicas(inner)
    if not isinstance(inner, DistributedDataParallel):
        return OneProcess(inner)
    check_wrapper(inner)
    from .ddp import Replicas

    return Replicas(inner)
