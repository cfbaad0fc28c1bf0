"""Networks that FSDP2 cuts over a mesh, and runs over it."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import largebatch as lb

# Replicas and pieces of each. Over one dimension all processes are one replica.
MESHES = {"replicas": (2, 1), "shards": (1, 2), "both": (2, 2)}


@functools.cache
def mesh(kind: str) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    over, pieces = MESHES[kind]
    if over == 1:
        return init_device_mesh("cpu", (pieces,))
    return init_device_mesh("cpu", (over, pieces), mesh_dim_names=("replicate", "shard"))


def sharded(kind: str, model: nn.Module, **options: Any) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    for module in (model.first, model.last, model):
        fully_shard(module, mesh=mesh(kind), **options)
    return model


def run_over(
    kind: str,
    optimizer: Callable[..., torch.optim.Optimizer],
    perturb: lb.Perturbation | None,
    count: int,
    *,
    cut: bool = False,
    model: nn.Module | None = None,
    wrap: Callable[..., nn.Module] = sharded,
    **workers: Any,
) -> Any:
    """A replicas.Run; each process sees its worker's examples, or where cut its part of them."""
    import replicas

    inner = functools.partial(wrap, kind)
    run = replicas.Run(optimizer, perturb, count, over=True, model=model, wrap=inner, **workers)
    over, (run.ranks, pieces) = mesh(kind), MESHES[kind]
    run.rank = over.get_local_rank(0) if over.ndim == 2 else 0
    if cut:
        run.pieces, run.piece = pieces, over.get_local_rank(over.ndim - 1)
    return run
