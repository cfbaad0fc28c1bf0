"""A Trainer's group of micro-batches: which part of its loss is whose, and what is looked at first.

The losses of a group add up to the group's. Of that a worker's share is

    tokens of its micro-batch / tokens of the group     where losses are divided by the group's
      (times the processes                              where those are of all processes)
    1 / micro-batches of the group                      elsewhere
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..workers import Workers

__all__ = ["looks_of", "share_of"]


def share_of(trainer: Any, inputs: Any, tokens: Any) -> float | Tensor:
    """How much of the group's loss on this process is that of the micro-batch ``inputs``.

    Args:
        trainer: in the middle of its epoch.
        inputs: the micro-batch.
        tokens: the Trainer's ``num_items_in_batch``; None where it has not counted.
    """
    if tokens is None or not _divided_by_tokens(trainer):
        return 1.0 / int(trainer.current_gradient_accumulation_steps)
    average = trainer.args.average_tokens_across_devices
    share: Tensor = _tokens(trainer, inputs) / tokens
    return share * trainer.accelerator.num_processes if average else share


def _divided_by_tokens(trainer: Any) -> bool:
    said = getattr(trainer, "loss_is_scaled_for_ga", None)
    if said is not None:
        return bool(said)
    return bool(trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None)


def _tokens(trainer: Any, inputs: Any) -> Tensor:
    """As the Trainer counts them, of this process alone."""
    average = trainer.args.average_tokens_across_devices
    trainer.args.average_tokens_across_devices = False
    try:
        tokens = trainer._get_num_items_in_batch([inputs], trainer.args.device)
    finally:
        trainer.args.average_tokens_across_devices = average
    # The own gradient of no tokens shall be zero, and not zero over zero.
    tokens = torch.as_tensor(tokens, device=trainer.args.device).clamp(min=1)
    return tokens.to(torch.float32 if tokens.device.type == "mps" else torch.float64)


def looks_of(workers: Workers, group: list[Any], place: int) -> list[Any]:
    """The micro-batches that are only looked at before the one at ``place`` runs."""
    perturb, step = workers.perturb, workers.step
    if perturb is None or perturb.passes(step) == 1:
        return []
    if perturb.scope(step) == "batch":
        return group if place == 0 else []
    return [group[(place + perturb.elsewhere(step)) % len(group)]]
