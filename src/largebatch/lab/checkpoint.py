"""Checkpoints of a run: tensors and plain numbers only, old or new but never half."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .config import RunConfig, to_dict
from .errors import InputError
from .processes import ALONE, Processes
from .records import differences

if TYPE_CHECKING:
    from .setup import Training

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: Path,
    training: Training,
    config: RunConfig,
    step: int,
    seconds: float,
    processes: Processes = ALONE,
) -> None:
    """Write everything that the rest of the run depends on, under another name, then rename.

    The first process writes what all processes' workers remember: one file, which is whole.
    """
    workers = processes.gathered(_on_cpu(training.workers.state_dict()))
    state = {
        "config": to_dict(config),
        "step": step,
        "seconds": seconds,
        "model": training.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in training.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in training.schedulers],
        "workers": workers,
    }
    processes.first(_write, path, state)


def _on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """A process cannot be handed what is on another's GPU."""
    return {
        key: [each.cpu() if isinstance(each, Tensor) else each for each in value]
        if isinstance(value, list)
        else value
        for key, value in state.items()
    }


def _write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(
    path: Path, training: Training, config: RunConfig, processes: Processes = ALONE
) -> tuple[int, float]:
    """Put a checkpoint's state into ``training``; the step and seconds that it stands at.

    Without a checkpoint that is (0, 0.0).

    Raises:
        InputError: the checkpoint is damaged, another configuration's, or of another number of
            processes.
    """
    if not processes.first(path.exists):
        return 0, 0.0
    state = processes.each(_read, path, config, processes)
    training.model.load_state_dict(state["model"])
    for optimizer, saved in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    for scheduler, saved in zip(training.schedulers, state["schedulers"], strict=True):
        scheduler.load_state_dict(saved)
    training.workers.load_state_dict(state["workers"][processes.rank])
    return int(state["step"]), float(state["seconds"])


def _read(path: Path, config: RunConfig, processes: Processes) -> dict[str, Any]:
    device = processes.device(config.device)
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found, ranks = state["config"], len(state["workers"])
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is not there for process {processes.rank}: the run's folder must be on a disk "
            "that all processes see"
        ) from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(
            f"{path} is damaged ({type(error).__name__}): delete it to start the run anew"
        ) from error
    if other := differences(found, to_dict(config)):
        raise InputError(
            f"{path} is of another configuration (differs in {', '.join(other)}): choose "
            "another --out"
        )
    if ranks != processes.ranks:
        # Numbers that it would not have had: the workers' noise would start from zero.
        raise InputError(
            f"{path} is of a run on {ranks} processes, there are {processes.ranks} now: go on with "
            f"{ranks}, or delete it to start the run anew"
        )
    return state
