"""Checkpoints of a run: tensors and plain numbers only, old or new but never half."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .config import RunConfig, to_dict
from .errors import InputError
from .records import differences

if TYPE_CHECKING:
    from .setup import Training

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: Path, training: Training, config: RunConfig, step: int, seconds: float
) -> None:
    """Write everything that the rest of the run depends on, under another name, then rename."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".part")
    state = {
        "config": to_dict(config),
        "step": step,
        "seconds": seconds,
        "model": training.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in training.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in training.schedulers],
        "workers": training.workers.state_dict(),
    }
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path, training: Training, config: RunConfig) -> tuple[int, float]:
    """Put a checkpoint's state into ``training``; the step and seconds that it stands at.

    Without a checkpoint that is (0, 0.0).

    Raises:
        InputError: the checkpoint is damaged, or another configuration's.
    """
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location=config.device, weights_only=True)
        found = state["config"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(
            f"{path} is damaged ({type(error).__name__}): delete it to start the run anew"
        ) from error
    if other := differences(found, to_dict(config)):
        raise InputError(
            f"{path} is of another configuration (differs in {', '.join(other)}): choose "
            "another --out"
        )
    training.model.load_state_dict(state["model"])
    for optimizer, saved in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    for scheduler, saved in zip(training.schedulers, state["schedulers"], strict=True):
        scheduler.load_state_dict(saved)
    training.workers.load_state_dict(state["workers"])
    return int(state["step"]), float(state["seconds"])
