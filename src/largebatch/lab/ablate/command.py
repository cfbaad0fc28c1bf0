"""The command line that asks an ablation again: what differs from the defaults, no more."""

from __future__ import annotations

import shlex

from ..compare.command import OPTIONS as COMPARE
from .question import Ablation, ablation_for

__all__ = ["NEVER", "OPTIONS", "OWN", "command"]

NOT_HERE = ("methods", "batch_sizes", "small_batch", "seeds")
OPTIONS = tuple(name for name in COMPARE if name not in NOT_HERE)
"""Fields of the question that have a command-line option of their name."""
NEVER = "never"
OWN = (
    "batch_size",
    "pilot_seeds",
    "seeds",
    "max_seeds",
    "detect",
    "power",
    "look_seeds",
    "look_examples",
)
"""The ablation's own."""


def command(ablation: Ablation) -> str:
    """The command that asks this ablation again.

    Example:
        >>> command(ablation_for("gnc", seeds=20))
        'largebatch ablate gnc --seeds 20'
    """
    question = ablation.question
    default = ablation_for(ablation.ablation, question.task, question.scale)
    parts = ["largebatch", "ablate", ablation.ablation]
    if question.task != "digits":
        parts += ["--task", question.task, "--data-dir", "DATA"]
    if question.scale != "short":
        parts += ["--scale", question.scale]
    there, usual = _values(ablation), _values(default)
    for name, value in there.items():
        if value is not None and value != usual[name]:
            parts += ["--" + name.replace("_", "-"), f"{value:g}" if name in FLOATS else str(value)]
    if question.seeds[0]:
        parts += ["--seed", str(question.seeds[0])]
    if ablation.looks != default.looks:
        parts += ["--looks", ",".join(ablation.looks) or NEVER]
    return shlex.join(parts)


FLOATS = ("detect", "power")


def _values(ablation: Ablation) -> dict[str, object]:
    question = {name: getattr(ablation.question, name) for name in OPTIONS}
    question["tuning_seeds"] = len(ablation.question.tuning_seeds)
    # How many seeds there may be at most goes without saying where their number is given.
    most = None if ablation.pairs else ablation.max_seeds
    return question | {
        "batch_size": ablation.batch_size, "pilot_seeds": len(ablation.pilot_seeds),
        "seeds": ablation.pairs, "max_seeds": most, "detect": ablation.detect,
        "power": ablation.power, "look_seeds": ablation.look_seeds,
        "look_examples": ablation.look_examples,
    }  # fmt: skip
