"""A backward pass of FSDP2 that reduces within the replica only, as on a one-dimensional mesh.

FSDP's own switch for that (``set_requires_all_reduce(False)``) keeps the gradient where nobody can
see it; so each group of parameters is told for the length of a pass that its mesh has no replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo, HSDPMeshInfo

__all__ = ["alone", "groups_of", "reset"]


@contextmanager
def alone(modules: Sequence[FSDPModule]) -> Iterator[None]:
    """Within, a backward pass leaves the replica's own gradient in ``p.grad``."""
    groups = [group for module in modules for group in groups_of(module)]
    before = [(group, group.mesh_info, group.post_forward_mesh_info) for group in groups]
    try:
        for group, whole, after_forward in before:
            if isinstance(whole, HSDPMeshInfo):
                group.mesh_info = _without_replicas(whole)
                # Compared by FSDP with the other, to see whether it gathers over another mesh.
                same = after_forward == whole
                group.post_forward_mesh_info = group.mesh_info if same else after_forward
        yield
    finally:
        for group, whole, after_forward in before:
            group.mesh_info, group.post_forward_mesh_info = whole, after_forward


def groups_of(module: Any) -> list[Any]:
    """The groups of parameters that an FSDPModule gathers and reduces together."""
    state = module._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    only = state._fsdp_param_group  # of torch before 2.12
    return [] if only is None else [only]


def reset(model: nn.Module, modules: Sequence[FSDPModule]) -> None:
    """Have FSDP forget a pass that failed midway."""
    if hasattr(model, "reset_iter_state"):
        model.reset_iter_state()  # type: ignore[operator]
        return
    for module in modules:  # of torch before there was that
        for group in groups_of(module):
            group._to_sharded()
            group._training_state = type(group._training_state).IDLE


def _without_replicas(whole: HSDPMeshInfo) -> FSDPMeshInfo:
    names = [each.name for each in fields(FSDPMeshInfo) if each.init]
    kept = {name: getattr(whole, name) for name in names if name != "replicate_mesh_dim"}
    made = FSDPMeshInfo(**kept)
    if hasattr(whole, "reduce_scatter_process_group"):
        made.reduce_scatter_process_group = whole.reduce_scatter_process_group
    return made
