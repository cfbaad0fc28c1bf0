"""The state of all processes' Workers in one checkpoint, which Lightning's rank 0 writes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from ..parallel import is_sharded
from ..workers import Workers

__all__ = ["everyones", "of_rank", "without_noise"]

State = dict[str, Any]


def everyones(own: State, model: nn.Module) -> list[State]:
    """The processes' states in the order of their ranks, on rank 0; elsewhere its own alone."""
    group = getattr(model, "process_group", None)  # DDP's; of FSDP2 all processes, which is None
    if group is None and not is_sharded(model):
        return [own]
    distributed = torch.distributed
    # Tensors come out of the message on the device that they went in from, another process's.
    own = {key: _on_cpu(value) for key, value in own.items()}
    states: list[State] = [{} for _ in range(distributed.get_world_size(group))]
    first = distributed.get_rank(group) == 0
    distributed.gather_object(own, states if first else None, group=group, group_dst=0)
    return states if first else [own]


def _on_cpu(value: Any) -> Any:
    if isinstance(value, list):
        return [each.cpu() if isinstance(each, torch.Tensor) else each for each in value]
    return value


def of_rank(states: list[State], trainer: Any) -> State:
    """This process's own; of another number of processes the first's, which says so itself."""
    return states[trainer.global_rank if len(states) == trainer.world_size else 0]


def without_noise(start: State, workers: Workers) -> State:
    """In the middle of a step: its number, and of the workers what ``start`` has, nothing."""
    if workers.bytes_needed or workers.refreshes:
        warnings.warn(
            f"a checkpoint in the middle of a step of {workers.count} micro-batches: what is "
            "remembered of the workers is not in it and will start from zero, as the step's "
            "gradients will; validate and save after multiples of accumulate_grad_batches",
            stacklevel=2,
        )
    return {**start, "step": workers.step}
