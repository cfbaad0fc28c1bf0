"""The score on the examples that the run trains on."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from largebatch import probes

from ..evaluate import evaluate
from .kind import ProbeKind
from .moment import Moment

__all__ = ["PROBES", "TrainingScore"]


@dataclass(frozen=True)
class TrainingScore:
    """How well the training examples are known, in evaluation mode.

    Attributes:
        loss: mean over all of them.
        score: the task's metric.
        metric: its name.
        examples: how many there are, without augmentation.
    """

    loss: float
    score: float
    metric: str
    examples: int


def _training_score(at: Moment) -> Generator[None, None, TrainingScore]:
    with probes.untouched(at.model):
        found = evaluate(at.model, at.task, at.train)
    yield
    metric = at.task.metric
    return TrainingScore(found["loss"], found[metric], metric, len(at.train[0]))


PROBES = (
    ProbeKind(
        "training_score",
        "loss and score on the training examples: what the held-out score falls short of",
        "CURV, Fig. 10, 12, 14 and 16",
        "a forward pass of the full data",
        _training_score,
    ),
)
