"""A question with its data: what every run of the comparison is, and whether it can run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..config import RunConfig
from ..errors import InputError
from ..methods import parse
from ..models import has_batch_norm
from ..records import differences, read_json, write_json
from ..setup import load_task, make_training, plan_run
from ..tasks import Task, split
from .command import command
from .grid import Trial, first_trials
from .question import Pair, Question

__all__ = ["Setting", "Split", "claim"]

Split = Literal["test", "validation"]
SPLITS: tuple[Split, ...] = ("validation", "test")
TOGETHER_CHUNK = 512


@dataclass(frozen=True)
class Setting:
    """A question about a task whose examples have been counted.

    Attributes:
        question: what is asked.
        data_dir: where the data is.
        task: the question's task.
        examples: training examples of each split.
        held_out: examples that each split scores on.
        coupled: whether the model has batch norm, which couples a worker's examples.
    """

    question: Question
    data_dir: Path | None
    task: Task
    examples: dict[str, int]
    held_out: dict[str, int]
    coupled: bool

    @classmethod
    def of(cls, question: Question, data_dir: Path | None) -> Setting:
        """Load the data and count."""
        task, data = load_task(question.task, data_dir)
        views = {
            on: split(data, on, validation=task.validation, train_size=question.train_size)
            for on in ("test", "validation")
        }
        examples = {on: len(view.train[0]) for on, view in views.items()}
        held_out = {on: len(view.held_out[0]) for on, view in views.items()}
        return cls(question, data_dir, task, examples, held_out, has_batch_norm(task.model()))

    def config(self, pair: Pair, trial: Trial, seed: int, on: Split) -> RunConfig:
        """The configuration of one run."""
        config = self.question.run(pair, on, self.examples[on])
        if not parse(pair[0]).by_worker and not self.coupled and not config.batches.sizes:
            # Without batch norm nothing couples a worker's examples, so that workers of a method
            # that takes them together give the batch's own mean: fewer, larger ones are the same
            # method, faster.
            whole = pair[1] % TOGETHER_CHUNK
            config = replace(config, worker_size=pair[1] if whole else TOGETHER_CHUNK)
        return replace(config, lr=trial.lr, alpha=trial.alpha, seed=seed)

    def steps_per_epoch(self, config: RunConfig) -> int:
        """Updates in one pass over the training examples."""
        return self.examples[config.split] // config.batch_size

    def describe(self) -> dict[str, Any]:
        """compare.json: the question and what a reader needs to know of its data."""
        return {
            **self.question.to_dict(),
            "task_title": self.task.title,
            "metric": self.task.metric,
            "higher_is_better": self.task.higher_is_better,
            "train_examples": self.examples["test"],
            "tuning_examples": self.examples["validation"],
            "validation_examples": self.held_out["validation"],
            "test_examples": self.held_out["test"],
            "command": command(self.question),
            "published": [],
        }

    def check(self) -> None:
        """Every pair must be able to run on both splits.

        Raises:
            InputError: one of them cannot; nothing was run.
        """
        for pair in self.question.pairs():
            self.check_pair(pair)

    def check_pair(self, pair: Pair) -> None:
        """A pair must be able to run on both splits.

        Raises:
            InputError: it cannot.
        """
        trial = first_trials(pair[0], 1, 1)[0]
        for on in SPLITS:
            config = self.config(pair, trial, 0, on)
            make_training(config, plan_run(config, self.data_dir))


def claim(path: Path, described: dict[str, Any], kind: str) -> None:
    """Make the folder of ``path``, which is held, the one of what ``described`` says.

    Raises:
        InputError: the folder is another one's, or cannot be written to.
    """
    try:
        if path.exists():
            _same(path, read_json(path), described, kind)
        write_json(path, described)
    except OSError as error:
        raise InputError(f"cannot write to {path.parent}: {error.strerror}") from error


def _same(path: Path, found: Any, wanted: dict[str, Any], kind: str) -> None:
    if differs := differences(found, wanted):
        there = found if isinstance(found, dict) else {}
        # Another command only says what the others say.
        differs = [k for k in differs if k != "command"] or differs
        shown = ", ".join(f"{k} {there.get(k)!r} there, {wanted[k]!r} asked" for k in differs[:3])
        raise InputError(f"{path.parent} holds another {kind} ({shown}): choose another --out")
