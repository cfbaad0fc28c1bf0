"""Reads an ablation's folder: its run folders are the one truth, nothing here writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from largebatch.lab.records import read_json
from largebatch.lab.report.metric import Metric, metric_of
from largebatch.lab.report.read import Comparison, Record, Run, number, read_object, read_runs
from largebatch.lab.report.stats import Estimate, estimate

KEYS = ("ablation", "task", "arms", "contrasts", "title")


@dataclass(frozen=True)
class Arm:
    """One arm with its runs.

    Example:
        >>> Arm("none", "no noise", {}, (), {0: 90.0, 1: None}).diverged
        1
    """

    name: str
    title: str
    choice: Record
    runs: tuple[Run, ...]
    values: dict[int, float | None]

    @property
    def finished(self) -> dict[int, float]:
        """Final values by seed, of those that reached one."""
        return {s: v for s, v in sorted(self.values.items()) if v is not None}

    @property
    def diverged(self) -> int:
        """How many seeds diverged."""
        return len(self.values) - len(self.finished)

    @property
    def estimate(self) -> Estimate | None:
        """Mean over the seeds that finished."""
        return estimate(list(self.finished.values())) if self.finished else None


@dataclass(frozen=True)
class Ablated:
    """An ablation's folder.

    Example:
        >>> Ablated({"task": "digits"}, (), {}, ()).pairs
        0
    """

    question: Record
    arms: tuple[Arm, ...]
    power: Record
    tuning: tuple[Run, ...]

    @property
    def pairs(self) -> int:
        """Pairs of seeds that the final runs are to have."""
        return int(number(self.power.get("pairs")) or 0)

    @property
    def metric(self) -> Metric:
        """What is measured, with digits that fit its spread."""
        spreads = [e.sd for arm in self.arms if (e := arm.estimate) and e.sd is not None]
        name = str(self.question.get("metric", "accuracy_percent"))
        return metric_of(name, bool(self.question.get("higher_is_better", True)), spreads)

    @property
    def margin(self) -> float | None:
        """The smallest difference worth knowing."""
        return number(self.power.get("detect"))

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def as_comparison(self) -> Comparison:
        """As the tables of a comparison's report read it."""
        final = {run.name: run for arm in self.arms for run in arm.runs}
        question = {**self.question, "small_batch": self.question.get("batch_size", 0)}
        return Comparison(question, (), self.tuning, tuple(final.values()))


def read_ablation(folder: Path) -> Ablated:
    """Read an ablation's folder.

    Raises:
        FileNotFoundError: there is no ablate.json.
        ValueError: a file is not what its name says.

    Example:
        >>> read_ablation(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: a report needs nowhere/ablate.json, which is not there: ...
    """
    path = folder / "ablate.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"a report needs {path}, which is not there: give the folder that "
            "`largebatch ablate --out` wrote"
        )
    question = read_object(path, KEYS)
    choices = folder / "choices.json"
    chosen = {str(c["arm"]): c for c in (read_json(choices) if choices.is_file() else [])}
    power = folder / "power.json"
    final = read_runs(folder / "final")
    return Ablated(
        question,
        tuple(_arm(arm, chosen.get(str(arm["arm"]), {}), final) for arm in question["arms"]),
        read_object(power) if power.is_file() else {},
        (*read_runs(folder / "tuning"), *read_runs(folder / "pilot")),
    )


def _arm(asked: Mapping[str, Any], choice: Record, final: tuple[Run, ...]) -> Arm:
    """An arm has the runs of its method with its rate and alpha: two may share theirs."""
    wanted = (asked["method"], number(choice.get("lr")), number(choice.get("alpha")))
    runs = tuple(
        run
        for run in sorted(final, key=lambda run: run.seed)
        if (run.method, number(run.config.get("lr")), number(run.config.get("alpha"))) == wanted
    )
    values = {run.seed: run.value for run in runs if run.status != "unfinished"}
    return Arm(str(asked["arm"]), str(asked["title"]), choice, runs, values)
