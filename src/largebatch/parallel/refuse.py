"""Models whose workers cannot be seen from one process: refused by name, before any work."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["check_model"]

ADVICE = (
    "this version of largebatch holds its workers in one process, one after another: pass the "
    "plain module, or train without Workers"
)


def check_model(model: nn.Module) -> None:
    """Raise TypeError naming what ``model`` is wrapped in, or contains, that hides its workers."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"Workers needs a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        where = f" (at {name!r})" if name else ""
        if isinstance(module, DistributedDataParallel | DataParallel):
            kind = type(module).__name__
            raise TypeError(f"{kind}{where} hides its workers' gradients; {ADVICE}")
        if isinstance(module, nn.SyncBatchNorm):
            raise TypeError(
                f"SyncBatchNorm{where} couples the workers' statistics, which must be their own: "
                "use torch.nn.BatchNorm*d"
            )
        if type(module).__name__ in {"FullyShardedDataParallel", "DeepSpeedEngine"}:
            raise TypeError(f"{type(module).__name__}{where} is not supported; {ADVICE}")
    for name, parameter in model.named_parameters():
        # By name: importing torch.distributed.tensor takes longer than all of largebatch.
        if type(parameter.data).__name__ == "DTensor":
            raise TypeError(
                f"parameter {name!r} is a DTensor (FSDP2, tensor or pipeline parallel); {ADVICE}"
            )
