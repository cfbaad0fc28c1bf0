"""What Workers remember, in a checkpoint's folder: one file for each process.

Read with ``weights_only=True``: nothing executable is loaded.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

from ..workers import Workers

__all__ = ["load_state", "save_state"]


def _file(folder: str | os.PathLike[str], process: int) -> Path:
    return Path(folder) / f"workers_{process}.pt"


def save_state(workers: Workers, folder: str | os.PathLike[str], process: int) -> None:
    """Write the state of process number ``process``; every process writes its own.

    Raises:
        RuntimeError: in the middle of a step.
    """
    os.makedirs(folder, exist_ok=True)
    torch.save(workers.state_dict(), _file(folder, process))


def load_state(
    workers: Workers, folder: str | os.PathLike[str], process: int, step: int | None = None
) -> None:
    """Go on from :func:`save_state`; all processes must call this.

    Where the folder has no such file, as one that was saved without Workers, what is remembered
    starts from zero, with a warning, at ``step`` (None: where the workers are).

    Raises:
        ValueError: the state of another model.
    """
    path = _file(folder, process)
    if path.is_file():
        state = torch.load(path, map_location="cpu", weights_only=True)
    else:
        warnings.warn(
            f"{path} is not there (was the checkpoint saved without Workers?): what workers "
            "remember starts from zero",
            stacklevel=2,
        )
        # Loaded all the same: the processes that have a file wait for this one's message.
        state = {**workers.state_dict(), "slots": [], "shapes": [], "shown": []}
        state["step"] = workers.step if step is None else step
    workers.load_state_dict(state)
