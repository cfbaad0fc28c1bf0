"""Workers in a loop of Hugging Face's Accelerate: what each process's workers remember is saved.

The loop needs nothing of this package: Workers takes the model and the optimizer as ``prepare``
returns them. Only Accelerate's own way to save a further object keeps one process's state for all.
"""

from __future__ import annotations

import os
from typing import Any

from ..workers import Workers
from .state_files import load_state, save_state

__all__ = ["register_for_checkpointing"]


def register_for_checkpointing(accelerator: Any, workers: Workers) -> None:
    """Have ``accelerator.save_state`` and ``load_state`` keep ``workers`` too.

    In place of ``accelerator.register_for_checkpointing(workers)``, which writes the main
    process's state alone: here every process has a file of its own in the checkpoint's folder.
    Save between steps. Where a folder has no such file, the noise starts from zero, with a
    warning.

    Args:
        accelerator: the ``accelerate.Accelerator``.
        workers: made with the model that it has prepared.

    Example:
        >>> import largebatch as lb, tempfile, torch
        >>> from accelerate import Accelerator
        >>> accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> model, optimizer = accelerator.prepare(model, optimizer)
        >>> workers = lb.Workers(
        ...     model, optimizer, perturb=lb.GNC(alpha=0.1), count=4, reduction="sum"
        ... )
        >>> register_for_checkpointing(accelerator, workers)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = accelerator.save_state(folder)
        ...     accelerator.load_state(folder)
    """

    def save(models: Any, weights: Any, folder: str | os.PathLike[str]) -> None:
        save_state(workers, folder, accelerator.process_index)

    def load(models: Any, folder: str | os.PathLike[str]) -> None:
        load_state(workers, folder, accelerator.process_index)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
