"""Models whose workers cannot be told apart: refused by name, before any work."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["check_model", "check_wrapper"]

ADVICE = (
    "this version of largebatch holds its workers in one process or over DistributedDataParallel: "
    "pass the plain module or the DDP model itself, or train without Workers"
)


def check_model(model: nn.Module) -> None:
    """Raise TypeError naming what ``model`` is wrapped in, or contains, that hides its workers."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"Workers needs a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        where = f" (at {name!r})" if name else ""
        inner = isinstance(module, DistributedDataParallel) and module is not model
        if inner or isinstance(module, DataParallel):
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


# What a DDP model may have been made with that changes which gradients are reduced, and when.
_OPTIONS: dict[str, Callable[[DistributedDataParallel], object]] = {
    "mixed_precision (use torch.autocast)": lambda ddp: ddp.mixed_precision,
    "delay_all_reduce_named_params": lambda ddp: ddp._delay_all_reduce_params,
    "skip_all_reduce_unused_params": lambda ddp: getattr(ddp, "skip_all_reduce_unused_params", 0),
    "the Python reducer of torch.compile (optimize_ddp='python_reducer')": lambda ddp: (
        ddp._use_python_reducer
    ),
    "require_manual_backward_finalization": lambda ddp: getattr(
        ddp, "require_manual_backward_finalization", False
    ),
    "a device_mesh of several dimensions (tensor, pipeline or context parallel)": lambda ddp: (
        _in_larger_mesh(ddp)
    ),
}


def check_wrapper(model: DistributedDataParallel) -> None:
    """Raise TypeError naming an option of DDP with which workers cannot be told apart."""
    for name, used in _OPTIONS.items():
        if used(model):
            raise TypeError(
                f"DistributedDataParallel with {name} does not work with Workers: make it without"
            )


def _in_larger_mesh(model: DistributedDataParallel) -> bool:
    mesh = getattr(model, "device_mesh", None)
    return mesh is not None and mesh._get_root_mesh().ndim > 1
