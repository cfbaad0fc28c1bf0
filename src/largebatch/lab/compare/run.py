"""The course of a comparison: check → tune on validation data → final runs on test data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..alone import alone_in
from ..config import RunConfig
from ..errors import Failed
from ..records import write_json
from .pool import Job, Pool, Result
from .question import Question
from .setting import Setting, claim
from .tune import Choice, tune

__all__ = ["Interrupted", "Runs", "Stage", "compare", "keeping", "row"]


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
    setting = Setting.of(question, data_dir)
    setting.check()
    with keeping(out), Pool(processes, data_dir) as pool:
        claim(out / "compare.json", setting.describe(), "comparison")
        runs = Runs(setting, out, pool, stage)
        choices = tune(setting, lambda name, configs: runs("tuning", name, configs))
        sign = 1 if setting.task.higher_is_better else -1
        write_json(out / "choices.json", [choice.row(sign) for choice in choices])
        rows = _final(setting, runs, choices)
        write_json(out / "results.json", rows)
        return rows


@contextmanager
def keeping(out: Path) -> Iterator[None]:
    """Around the runs below ``out``: what ends them early leaves those that have finished.

    Raises:
        InputError: another process is at work there.
        Failed: the folder could not be written to.
        Interrupted: Ctrl-C.
    """
    try:
        with alone_in(out):
            yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted: finished runs are kept in {out}; the same command goes on from there"
        ) from error
    except OSError as error:
        raise Failed(
            f"{error}; finished runs are kept in {out}, and the same command goes on from there"
        ) from error


@dataclass(frozen=True)
class Runs:
    """Runs configurations, each in its folder below ``out``; the same one asked twice runs once."""

    setting: Setting
    out: Path
    pool: Pool
    stage: Stage

    def __call__(self, folder: str, name: str, configs: Sequence[RunConfig]) -> list[Result]:
        """The results of ``configs``, in their order, as a stage of this name."""
        jobs = [self._job(folder, config) for config in configs]
        once = list(dict.fromkeys(jobs))
        with self.stage(name, once) as done:
            results = self.pool.run(once, done)
        return [results[job] for job in jobs]

    def _job(self, folder: str, config: RunConfig) -> Job:
        steps = config.updates or config.epochs * self.setting.steps_per_epoch(config)
        return Job(config, self.out / folder / config.name(), steps * config.batch_size)


def _final(setting: Setting, runs: Runs, choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Every choice on the test data with every seed."""
    configs = [
        setting.config(choice.pair, choice.best, seed, "test")
        for choice in choices
        for seed in setting.question.seeds
    ]
    results = runs("final", "Final runs", configs)
    return [row(c, r) for c, r in zip(configs, results, strict=True)]


def row(config: RunConfig, result: Result) -> dict[str, Any]:
    """A final run as results.json has it."""
    return {
        "task": config.task,
        "method": config.method,
        "batch_size": config.batch_size,
        "lr": config.lr,
        "seed": config.seed,
        "epochs": result["epochs"],
        "metric": result["metric"],
        "value": result["value"],
        "seconds": result["seconds"],
    }
