"""Tuning: the best trial of every pair on the validation examples, with equal effort for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import RunConfig
from ..methods import parse
from .grid import Trial, at_edges, first_trials, more_trials
from .pool import Result
from .question import Pair
from .setting import Setting

__all__ = ["Choice", "tune"]

RunStage = Callable[[str, Sequence[RunConfig]], Sequence[Result]]
"""Runs configurations as a named stage; results in their order."""


@dataclass
class Choice:
    """A pair's trials so far, in the order tried, with what each scored.

    Attributes:
        pair: method and batch size.
        scores: of each trial, larger is better; None where it diverged.
    """

    pair: Pair
    scores: dict[Trial, tuple[float, float] | None] = field(default_factory=dict)

    @property
    def best(self) -> Trial:
        """The best trial; where all diverged, the one with the smallest rate."""
        ended = [t for t, score in self.scores.items() if score is not None]
        smallest = min(self.scores, key=lambda t: t.lr)
        return max(ended, key=lambda t: self.scores[t] or (0, 0), default=smallest)

    @property
    def at_edge(self) -> bool:
        """Whether the best trial lies at the edge of what was tried."""
        part = parse(self.pair[0]).free
        most = math.inf if part is None else part.most
        return bool(at_edges(self.best, list(self.scores), most))

    def row(self, sign: int) -> dict[str, Any]:
        """The choice as choices.json has it; ``sign`` turns scores back into metrics."""
        score = self.scores[self.best]
        part = parse(self.pair[0]).free
        return {
            "method": self.pair[0],
            "batch_size": self.pair[1],
            "lr": self.best.lr,
            "alpha": self.best.alpha,
            "parameter": None if part is None else part.parameter,
            "validation": None if score is None else sign * score[0],
            "trials": len(self.scores),
            "at_edge": self.at_edge,
        }


def tune(setting: Setting, run: RunStage) -> list[Choice]:
    """Try the first grids; while a choice lies at an edge, give every pair as many trials more."""
    question = setting.question
    choices = [Choice(pair) for pair in question.pairs()]
    trials = {c.pair: first_trials(c.pair[0], question.rates, question.alphas) for c in choices}
    _try(setting, run, "Tuning", choices, trials)
    for widening in range(1, question.widenings + 1):
        if not any(choice.at_edge for choice in choices):
            break
        size = max(question.alphas, 2)
        trials = {c.pair: more_trials(c.pair[0], list(c.scores), c.best, size) for c in choices}
        _try(setting, run, f"Tuning, grids widened {widening}x", choices, trials)
    return choices


def _try(
    setting: Setting,
    run: RunStage,
    name: str,
    choices: Sequence[Choice],
    trials: dict[Pair, list[Trial]],
) -> None:
    seeds = setting.question.tuning_seeds
    new = [(choice, trial) for choice in choices for trial in trials[choice.pair]]
    configs = [setting.config(c.pair, t, s, "validation") for c, t in new for s in seeds]
    results = iter(run(name, configs))
    for choice, trial in new:
        choice.scores[trial] = _score(setting, [next(results) for _ in seeds])


def _score(setting: Setting, results: Sequence[Result]) -> tuple[float, float] | None:
    """Mean metric, larger being better, then less loss; None where a seed diverged."""
    if any(r["value"] is None for r in results):
        return None
    sign = 1 if setting.task.higher_is_better else -1
    value, loss = (sum(r[k] for r in results) / len(results) for k in ("value", "loss"))
    return sign * value, -loss
