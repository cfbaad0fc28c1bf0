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

__all__ = ["alone", "groups_of", "reset", "reshard"]


@contextmanager
def alone(modules: Sequence[FSDPModule]) -> Iterator[None]:
    """Within, a backward pass leaves the replica's own gradient in ``p.grad``.

    And of this pass only: what others have left unreduced is dropped, as ``p.grad`` is.
    """
    states = [module._get_fsdp_state() for module in modules]
    groups = [group for module in modules for group in groups_of(module)]
    contexts = [state._state_ctx for state in states]
    told = _kept(groups, "mesh_info", "post_forward_mesh_info", "reduce_grads")
    with told, _kept(contexts, "is_last_backward"):
        for group in groups:
            _drop_unreduced(group)
            _leave_out_replicas(group)
            # Loops that accumulate switch these off for all passes but a step's last.
            group.reduce_grads = True
        for context in contexts:
            context.is_last_backward = True
        yield


@contextmanager
def _kept(things: Sequence[Any], *names: str) -> Iterator[None]:
    before = [(each, name, getattr(each, name)) for each in things for name in names]
    try:
        yield
    finally:
        for each, name, value in before:
            setattr(each, name, value)


def _leave_out_replicas(group: Any) -> None:
    whole, after_forward = group.mesh_info, group.post_forward_mesh_info
    if isinstance(whole, HSDPMeshInfo):
        group.mesh_info = _without_replicas(whole)
        # Compared by FSDP with the other, to see whether it gathers over another mesh.
        group.post_forward_mesh_info = group.mesh_info if after_forward == whole else after_forward


def _drop_unreduced(group: Any) -> None:
    """Forget gradients of passes with ``set_requires_gradient_sync(False)``, or that failed."""
    group._partial_reduce_output = None
    for each in group.fsdp_params:
        if "unsharded_accumulated_grad" in vars(each):  # of older torch
            each.unsharded_accumulated_grad = None
        if (gathered := getattr(each, "_unsharded_param", None)) is not None:
            gathered.grad = None


def groups_of(module: Any) -> list[Any]:
    """The groups of parameters that an FSDPModule gathers and reduces together."""
    state = module._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    only = state._fsdp_param_group  # of torch before 2.12
    return [] if only is None else [only]


def reshard(module: FSDPModule) -> None:
    """Forget gathered weights, also those that are still on their way."""
    for group in groups_of(module):
        group.wait_for_unshard()
    module.reshard()


def reset(model: nn.Module, modules: Sequence[FSDPModule]) -> None:
    """Have FSDP forget a pass that failed midway."""
    root = model._get_fsdp_state()._is_root  # type: ignore[operator]
    if root is None:
        return  # no forward pass has begun, before which there is nothing to forget, nor to ask
    if root and hasattr(model, "reset_iter_state"):
        model.reset_iter_state()  # type: ignore[operator]
        return
    for module in modules:  # of a part, or of torch before there was that
        _reset_state(module._get_fsdp_state())
        for group in groups_of(module):
            group._training_state = type(group._training_state).IDLE
            group._post_forward_indices.clear()


def _reset_state(state: Any) -> None:
    state._training_state = type(state._training_state).IDLE
    state._state_ctx.iter_forward_root = None
    # Else it does not hear of the end of any backward pass any more.
    state._state_ctx.post_backward_final_callback_queued = False
    getattr(state._comm_ctx, "post_forward_order", []).clear()


def _without_replicas(whole: HSDPMeshInfo) -> FSDPMeshInfo:
    names = [each.name for each in fields(FSDPMeshInfo) if each.init]
    kept = {name: getattr(whole, name) for name in names if name != "replicate_mesh_dim"}
    made = FSDPMeshInfo(**kept)
    if hasattr(whole, "reduce_scatter_process_group"):
        made.reduce_scatter_process_group = whole.reduce_scatter_process_group
    return made
