"""Models whose workers cannot be told apart: refused by name, before any work."""

from __future__ import annotations

import sys
from collections.abc import Callable

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..mesh import Sharding, sharding

__all__ = ["check_model", "check_wrapper", "is_sharded"]

ADVICE = (
    "Workers run in one process, over DistributedDataParallel or over fully_shard (FSDP2): pass "
    "the plain module, or the DDP or FSDP2 model itself, or train without Workers"
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
    if is_sharded(model):
        _check_sharded(model)
    else:
        _check_whole(model)


def is_sharded(model: nn.Module) -> bool:
    """Whether fully_shard was applied to the model itself."""
    # Whoever applied it has imported it, which takes longer than all of largebatch.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def _check_whole(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if is_sharded(module):
            raise TypeError(
                f"fully_shard was applied to {name!r}, but not to the model itself, whose other "
                "gradients nobody would add up: apply it to the whole model too, last"
            )
    for name, parameter in model.named_parameters():
        if sharding(parameter) is not None:
            raise TypeError(
                f"parameter {name!r} is a DTensor of tensor, pipeline or context parallelism; "
                f"{ADVICE}"
            )


def _check_sharded(model: nn.Module) -> None:
    """Raise unless all that is in training lies alike, over one or two dimensions of data."""
    lie = {name: sharding(p) for name, p in model.named_parameters() if p.requires_grad}
    if not lie:
        raise ValueError("no parameter of the model is in training: thaw some, then make Workers")
    first = next(iter(lie.values()))
    for name, each in lie.items():
        if each is None or first is None:
            raise TypeError(
                f"parameter {name!r} is in training, but not sharded: its gradient would stay "
                "this process's own; do not name it in ignored_params, or freeze it"
            )
        if each.mesh != first.mesh:
            raise TypeError(
                f"parameter {name!r} lies on another mesh than the first: Workers need fully_shard "
                "over one mesh for the whole model"
            )
        _check_placed(name, each)
    for name, module in model.named_modules():
        if is_sharded(module):
            _check_reduction(name, module)


def _check_placed(name: str, where: Sharding) -> None:
    kinds = [type(placement).__name__ for placement in where.placements]
    known = kinds in (["Shard"], ["Replicate", "Shard"])
    # A mesh may have further dimensions of one process, as Lightning's has.
    if not known or where.mesh._get_root_mesh().size() > where.mesh.size():
        raise TypeError(
            f"parameter {name!r} is placed as {where.placements} on {where.mesh}: Workers need "
            "fully_shard over a mesh of its own, of shards or of replicas by shards, without "
            "tensor, pipeline or context parallelism"
        )


def _check_reduction(name: str, module: nn.Module) -> None:
    """Raise where somebody has changed how FSDP adds gradients up."""
    from .own_replica import groups_of

    for group in groups_of(module):
        for what, changed in (
            ("set_all_reduce_hook", group._all_reduce_hook),
            ("set_gradient_divide_factor", group.gradient_divide_factor),
        ):
            if changed is not None:
                raise TypeError(
                    f"{what} was called on {name or 'the model'!r}, which changes what the mean "
                    "over workers is: leave it out"
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
