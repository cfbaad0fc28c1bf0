"""The course of a comparison: check → tune on validation data → final runs on test data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import nn

from ..config import RunConfig
from ..errors import Failed, InputError
from ..methods import parse
from ..records import differences, read_json, write_json
from ..setup import load_task, make_training, plan_run
from ..tasks import Task, split
from .command import command
from .grid import Grid, Trial, at_edges
from .pool import Job, Pool, Result
from .question import Pair, Question

__all__ = ["Interrupted", "Stage", "compare"]

UNPERTURBED_CHUNK = 512


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: what is finished is kept, and the same command goes on from there."""


class Stage(Protocol):
    """Opens a stage of so many jobs; what it gives is called for each that ends."""

    def __call__(
        self, name: str, jobs: Sequence[Job]
    ) -> AbstractContextManager[Callable[[Job], None]]:
        """Show the stage while the context lasts."""


def compare(
    question: Question, out: Path, data_dir: Path | None, processes: int, stage: Stage
) -> list[dict[str, Any]]:
    """Answer ``question`` in the folder ``out``; write compare, choices and results as JSON.

    Raises:
        InputError: bad input, before any training.
        Failed: a process died, or the folder could not be written to, for example a full disk.
        Interrupted: Ctrl-C.
    """
    pool = Pool(processes, data_dir)
    course = _Course(question, out, data_dir, pool, stage)
    course.check()
    try:
        with pool:
            chosen = course.tune()
            return course.finish(chosen)
    except KeyboardInterrupt as error:
        raise Interrupted from error
    except OSError as error:
        raise Failed(
            f"{error}; finished runs are kept in {out}, and the same command goes on from there"
        ) from error


class _Course:
    def __init__(
        self, question: Question, out: Path, data_dir: Path | None, pool: Pool, stage: Stage
    ) -> None:
        self.question = question
        self.out = out
        self.data_dir = data_dir
        self.pool = pool
        self.stage = stage
        self.task, data = load_task(question.task, data_dir)
        views = [
            split(data, on, validation=self.task.validation, train_size=question.train_size)
            for on in ("test", "validation")
        ]
        self.examples = {"test": len(views[0].train[0]), "validation": len(views[1].train[0])}
        self.held_out = {"test": len(views[0].held_out[0]), "validation": len(views[1].held_out[0])}
        self.coupled = _has_batch_norm(self.task)

    # --- before any training ------------------------------------------------------------------

    def check(self) -> None:
        """Every pair must be able to run on both splits; the folder must be this question's."""
        for pair in self.question.pairs():
            for on in ("validation", "test"):
                config = self.config(pair, Grid.of(1, 1).trials(pair)[0], 0, on)
                make_training(config, plan_run(config, self.data_dir))
        described = self.describe()
        path = self.out / "compare.json"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            if path.exists():
                _same_question(path, read_json(path), described)
            write_json(path, described)
        except OSError as error:
            raise InputError(f"cannot write to {self.out}: {error.strerror}") from error

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

    def config(
        self, pair: Pair, trial: Trial, seed: int, on: Literal["test", "validation"]
    ) -> RunConfig:
        """The configuration of one run."""
        config = self.question.run(pair, on, self.examples[on])
        if parse(pair[0]).perturb is None and not self.coupled:
            # Without batch norm nothing couples a worker's examples, so that unperturbed workers
            # give the batch's own mean: fewer, larger ones are the same method, faster.
            whole = pair[1] % UNPERTURBED_CHUNK
            config = replace(config, worker_size=pair[1] if whole else UNPERTURBED_CHUNK)
        return replace(config, lr=trial.lr, alpha=trial.alpha, seed=seed)

    # --- tuning -------------------------------------------------------------------------------

    def tune(self) -> dict[Pair, Trial]:
        """The best trial of every pair on the validation examples; grids grow while they must."""
        grid = Grid.of(self.question.rates, self.question.alphas)
        scores: dict[tuple[Pair, Trial], tuple[float, float] | None] = {}
        for widening in range(self.question.widenings + 1):
            name = "Tuning" if not widening else f"Tuning, grids widened {widening}x"
            self._try(grid, scores, name)
            chosen = self._best(grid, scores)
            wider = grid.widened(chosen)
            if wider == grid or widening == self.question.widenings:
                break
            grid = wider
        self._write_choices(grid, chosen, scores)
        return chosen

    def _try(
        self,
        grid: Grid,
        scores: dict[tuple[Pair, Trial], tuple[float, float] | None],
        name: str,
    ) -> None:
        new = [
            (p, t) for p in self.question.pairs() for t in grid.trials(p) if (p, t) not in scores
        ]
        jobs = {
            (pair, trial, seed): self._job("tuning", self.config(pair, trial, seed, "validation"))
            for pair, trial in new
            for seed in self.question.tuning_seeds
        }
        results = self._run(name, list(jobs.values()))
        for pair, trial in new:
            found = [results[jobs[pair, trial, s]] for s in self.question.tuning_seeds]
            scores[pair, trial] = self._score(found)

    def _score(self, results: list[Result]) -> tuple[float, float] | None:
        """Mean metric, larger being better, then less loss; None where a seed diverged."""
        if any(r["value"] is None for r in results):
            return None
        sign = 1 if self.task.higher_is_better else -1
        mean = [sum(r[k] for r in results) / len(results) for k in ("value", "loss")]
        return sign * mean[0], -mean[1]

    def _best(
        self, grid: Grid, scores: dict[tuple[Pair, Trial], tuple[float, float] | None]
    ) -> dict[Pair, Trial]:
        chosen = {}
        for pair in self.question.pairs():
            trials = grid.trials(pair)
            ended = [t for t in trials if scores[pair, t] is not None]
            # Where every rate diverged the smallest is the one to go on from.
            chosen[pair] = max(ended, key=lambda t: scores[pair, t] or (0, 0), default=trials[0])
        return chosen

    def _write_choices(
        self,
        grid: Grid,
        chosen: dict[Pair, Trial],
        scores: dict[tuple[Pair, Trial], tuple[float, float] | None],
    ) -> None:
        sign = 1 if self.task.higher_is_better else -1
        rows = []
        for pair, trial in chosen.items():
            score = scores[pair, trial]
            rows.append(
                {
                    "method": pair[0],
                    "batch_size": pair[1],
                    "lr": trial.lr,
                    "alpha": trial.alpha,
                    "validation": None if score is None else sign * score[0],
                    "trials": len(grid.trials(pair)),
                    "at_edge": bool(at_edges(trial, grid.trials(pair))),
                }
            )
        write_json(self.out / "choices.json", rows)

    # --- final runs ---------------------------------------------------------------------------

    def finish(self, chosen: dict[Pair, Trial]) -> list[dict[str, Any]]:
        """Run every choice on the test data with every seed, and write results.json."""
        jobs = {
            (pair, seed): self._job("final", self.config(pair, trial, seed, "test"))
            for pair, trial in chosen.items()
            for seed in self.question.seeds
        }
        results = self._run("Final runs", list(jobs.values()))
        rows = [self._row(pair, job, results[job]) for (pair, _), job in jobs.items()]
        write_json(self.out / "results.json", rows)
        return rows

    def _row(self, pair: Pair, job: Job, result: Result) -> dict[str, Any]:
        return {
            "task": self.question.task,
            "method": pair[0],
            "batch_size": pair[1],
            "lr": job.config.lr,
            "seed": job.config.seed,
            "epochs": result["updates"] / self._steps_per_epoch(job.config),
            "metric": result["metric"],
            "value": result["value"],
            "seconds": result["seconds"],
        }

    def _job(self, stage: str, config: RunConfig) -> Job:
        steps = config.updates or config.epochs * self._steps_per_epoch(config)
        return Job(config, self.out / stage / config.name(), steps * config.batch_size)

    def _steps_per_epoch(self, config: RunConfig) -> int:
        return self.examples[config.split] // config.batch_size

    def _run(self, name: str, jobs: list[Job]) -> dict[Job, Result]:
        with self.stage(name, jobs) as done:
            return self.pool.run(jobs, done)


def _has_batch_norm(task: Task) -> bool:
    kinds = nn.modules.batchnorm._BatchNorm
    return any(isinstance(m, kinds) for m in task.model().modules())


def _same_question(path: Path, found: Any, wanted: dict[str, Any]) -> None:
    if differs := differences(found, wanted):
        there = found if isinstance(found, dict) else {}
        shown = ", ".join(f"{k} {there.get(k)!r} there, {wanted[k]!r} asked" for k in differs[:3])
        raise InputError(f"{path.parent} holds another comparison ({shown}): choose another --out")
