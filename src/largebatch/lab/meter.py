"""What a run measures between two records, without synchronizing with the device at each step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["Meter"]

RECORDS = 40
"""Training records of a run, beside those that go with a score."""


class Meter:
    """Collects losses and offsets, and says when a record and a score are due.

    Args:
        steps: of the run.
        evaluations: scores during the run, the end included.
        seconds: training time already spent, before a resume.
    """

    def __init__(self, steps: int, evaluations: int, seconds: float) -> None:
        """Start the clock."""
        self._steps = steps
        self._evaluations = evaluations
        self._since = time.monotonic() - seconds
        self._losses: list[Tensor] = []
        self._ratios: list[Tensor] = []

    @property
    def seconds(self) -> float:
        """Time since the run began, scoring included, probes and pauses between resumes not."""
        return time.monotonic() - self._since

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, the clock stands still."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - began

    def add(self, loss: Tensor, ratio: Tensor | None) -> None:
        """Note one step's loss and its offset norm over weight norm."""
        self._losses.append(loss)
        if ratio is not None:
            self._ratios.append(ratio)

    def score_due(self, done: int) -> bool:
        """Whether the model is to be scored after ``done`` steps."""
        return self._among(self._evaluations, done)

    def record_due(self, done: int) -> bool:
        """Whether a training record is to be written; always when a score is due."""
        return self._among(RECORDS, done) or self.score_due(done)

    def _among(self, count: int, done: int) -> bool:
        """Whether ``done`` is one of ``count`` steps spread evenly over the run, its last too."""
        return done * count // self._steps > (done - 1) * count // self._steps

    def take(self, over: Callable[[float], float] = lambda mean: mean) -> dict[str, float]:
        """Mean loss and offset ratio since the last record; the ratio only where weights moved.

        Args:
            over: takes the loss's mean over processes too; the ratio is of the first worker.
        """
        found = {"loss": over(_mean(self._losses))}
        ratio = _mean(self._ratios) if self._ratios else 0.0
        if ratio:
            found["offset_to_weight_norm"] = ratio
        self._losses, self._ratios = [], []
        return found


def _mean(values: list[Tensor]) -> float:
    mean = float(torch.stack([v.float() for v in values]).mean())
    return mean if math.isfinite(mean) else math.nan
