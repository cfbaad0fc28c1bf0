"""When a run is saved: now and then to go on from, and before chosen steps for good."""

from __future__ import annotations

import time
from pathlib import Path

from .checkpoint import save_checkpoint
from .config import RunConfig
from .probes import when
from .processes import Processes
from .records import RunFolder
from .setup import Plan, Training

__all__ = ["Saving"]


class Saving:
    """Writes the checkpoints of one run.

    Args:
        folder: where.
        training: what is saved.
        config: says how often, and what is kept.
        plan: the run's steps.
        processes: those that share the run.
    """

    def __init__(
        self,
        folder: RunFolder,
        training: Training,
        config: RunConfig,
        plan: Plan,
        processes: Processes,
    ) -> None:
        """Start to count the time."""
        self._folder = folder
        self._training = training
        self._config = config
        self._plan = plan
        self._processes = processes
        self._keep = when(config.keep) if config.keep else None
        self._saved = processes.first(time.monotonic)

    def before(self, step: int, seconds: float) -> None:
        """Keep the state before step ``step``, where that was asked for."""
        if self._keep is not None and self._keep.due(step, self._plan):
            self._save(self._folder.kept(step), step, seconds)

    def after(self, done: int, seconds: float) -> None:
        """Save the state after ``done`` steps, where the last one is long enough ago."""
        now = self._processes.first(time.monotonic)
        if done < self._plan.steps and now - self._saved >= self._config.checkpoint_seconds:
            self._save(self._folder.checkpoint, done, seconds)
            self._saved = self._processes.first(time.monotonic)

    def _save(self, path: Path, step: int, seconds: float) -> None:
        save_checkpoint(path, self._training, self._config, step, seconds, self._processes)
