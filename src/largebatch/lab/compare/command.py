"""The command line that asks a question again: what differs from the defaults, no more."""

from __future__ import annotations

import shlex

from .question import Question, question_for

__all__ = ["OPTIONS", "command"]

OPTIONS = (
    "methods",
    "batch_sizes",
    "small_batch",
    "worker_size",
    "epochs",
    "tuning_epochs",
    "seeds",
    "tuning_seeds",
    "rates",
    "alphas",
    "widenings",
    "evaluations",
    "train_size",
    "device",
)
"""Fields of a question that have a command-line option of their name."""


def command(question: Question) -> str:
    """The command that asks this question again."""
    default = question_for(question.task, question.scale)
    parts = ["largebatch", "compare"]
    if question.task != "digits":
        parts += ["--task", question.task, "--data-dir", "DATA"]
    if question.scale != "short":
        parts += ["--scale", question.scale]
    for name in OPTIONS:
        value = getattr(question, name)
        if value == getattr(default, name):
            continue
        if name in ("seeds", "tuning_seeds"):
            value = len(value)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        parts += ["--" + name.replace("_", "-"), text]
    if question.seeds[0]:
        parts += ["--seed", str(question.seeds[0])]
    return shlex.join(parts)
