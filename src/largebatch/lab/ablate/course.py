"""The course of an ablation: check → tune → pilot → number of pairs → final runs on test data.

Tuning and pilot see validation examples alone, so that neither the settings nor the number of pairs
can follow what the final runs will say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..compare.grid import Trial
from ..compare.pool import Pool
from ..compare.run import Runs, Stage, keeping, row
from ..compare.setting import Setting, Split, claim
from ..compare.tune import Choice, tune
from ..config import RunConfig
from ..errors import InputError
from ..records import write_json
from .arms import Arm
from .command import command
from .pairs import planned
from .question import Ablation

__all__ = ["ablate"]

Values = dict[str, dict[int, float | None]]
"""Of each arm, by seed; None where the run diverged."""


def ablate(
    ablation: Ablation, out: Path, data_dir: Path | None, processes: int, stage: Stage
) -> list[dict[str, Any]]:
    """Answer ``ablation`` in the folder ``out``; returns the rows of its ``results.json``.

    Raises:
        InputError: bad input, before any training.
        Failed: a process died, or the folder could not be written to, for example a full disk.
        Interrupted: Ctrl-C.
    """
    course = _Course(ablation, Setting.of(ablation.question, data_dir))
    course.check()
    with keeping(out), Pool(processes, data_dir) as pool:
        course.claim(out)
        runs = Runs(course.setting, out, pool, stage)
        choices = tune(course.setting, lambda name, configs: runs("tuning", name, configs))
        write_json(out / "choices.json", course.choices(choices))
        trials = {choice.pair[0]: choice.best for choice in choices}
        plan = course.planned(course.pilot(runs, trials))
        write_json(out / "power.json", plan)
        rows = course.final(runs, trials, plan["pairs"])
        write_json(out / "results.json", rows)
        return rows


@dataclass(frozen=True)
class _Course:
    """An ablation whose examples have been counted."""

    ablation: Ablation
    setting: Setting

    def planned(self, pilot: Values) -> dict[str, Any]:
        """The number of pairs and how it was found."""
        task = self.setting.task
        percent = task.metric.endswith("_percent")
        resolution = 100 / self.setting.held_out["test"] if percent else 0.0
        return planned(self.ablation, pilot, resolution, 1 if task.higher_is_better else -1)

    def config(self, arm: Arm, trials: Mapping[str, Trial], seed: int, on: Split) -> RunConfig:
        """One arm's run; every arm has the same workers, so that nothing but its noise differs."""
        trial = trials[arm.tuned_as]
        trial = Trial(trial.lr, None) if arm.method == "msgd" else trial
        found = self.setting.config((arm.method, self.ablation.batch_size), trial, seed, on)
        found = replace(found, worker_size=self.ablation.question.worker_size)
        if on == "validation":
            return found
        probes, examples = self.ablation.probes(seed), self.ablation.look_examples
        return replace(found, probes=probes, refresh_examples=examples)

    def check(self) -> None:
        """Every arm must be able to run.

        Raises:
            InputError: one of them cannot; nothing was run.
        """
        batch = self.ablation.batch_size
        for method in dict.fromkeys(arm.method for arm in self.ablation.design.arms):
            self.setting.check_pair((method, batch))

    def claim(self, out: Path) -> None:
        """Make ``out``, which is held, the folder of this ablation.

        Raises:
            InputError: it holds something else; nothing was run.
        """
        described = self.setting.describe()
        data = {
            name: described[name]
            for name in (
                "task_title", "metric", "higher_is_better", "train_examples", "tuning_examples",
                "validation_examples", "test_examples",
            )
        }  # fmt: skip
        if (out / "compare.json").exists():
            raise InputError(f"{out} holds a comparison: choose another --out")
        own = {**self.ablation.to_dict(), **data, "command": command(self.ablation)}
        claim(out / "ablate.json", own, "ablation")

    def choices(self, choices: Sequence[Choice]) -> list[dict[str, Any]]:
        """What tuning chose, a row for each arm."""
        sign = 1 if self.setting.task.higher_is_better else -1
        rows = {choice.pair[0]: choice.row(sign) for choice in choices}
        made = []
        for arm in self.ablation.design.arms:
            chosen = dict(rows[arm.tuned_as])
            if arm.method == "msgd":
                chosen |= {"alpha": None, "parameter": None}
            made.append({**asdict(arm), **chosen, "method": arm.method})
        return made

    def pilot(self, runs: Runs, trials: Mapping[str, Trial]) -> Values:
        """The arms of the question and of the gain on validation examples, new seeds."""
        arms = [self.ablation.design.arm(name) for name in self.ablation.design.pilot]
        asked = self._asked(arms, self.ablation.pilot_seeds, trials, "validation")
        values: Values = {arm.arm: {} for arm in arms}
        results = runs("pilot", "Pilot", [config for _, config in asked])
        for (arm, config), result in zip(asked, results, strict=True):
            values[arm.arm][config.seed] = result["value"]
        return values

    def final(self, runs: Runs, trials: Mapping[str, Trial], pairs: int) -> list[dict[str, Any]]:
        """Every arm on the test data with as many seeds as there are pairs."""
        first = self.ablation.question.seeds[0]
        seeds = range(first, first + pairs)
        asked = self._asked(self.ablation.design.arms, seeds, trials, "test")
        results = runs("final", "Final runs", [config for _, config in asked])
        ended = zip(asked, results, strict=True)
        return [{"arm": arm.arm, **row(config, result)} for (arm, config), result in ended]

    def _asked(
        self, arms: Sequence[Arm], seeds: Iterable[int], trials: Mapping[str, Trial], on: Split
    ) -> list[tuple[Arm, RunConfig]]:
        """Seed by seed, so that what is there when it is interrupted is made of pairs."""
        return [(arm, self.config(arm, trials, seed, on)) for seed in seeds for arm in arms]
