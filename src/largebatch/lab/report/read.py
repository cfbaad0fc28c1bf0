"""Reads a compare folder: its run folders are the one truth, nothing here writes.

What may be missing is missing quietly: a torn last line of metrics.jsonl, a run without result.json
(interrupted), optional keys. What must be there and is not, is an error that says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records import read_json, read_lines

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One run folder.

    Example:
        >>> run = Run("0", {"method": "sngm", "batch_size": 1024, "seed": 3}, {}, (), None)
        >>> run.method, run.batch_size, run.seed, run.status
        ('sngm', 1024, 3, 'unfinished')
    """

    name: str
    config: Record
    environment: Record
    metrics: tuple[Record, ...]
    result: Record | None

    @property
    def method(self) -> str:
        """The method's id."""
        return str(self.config["method"])

    @property
    def batch_size(self) -> int:
        """Examples per update."""
        return int(self.config["batch_size"])

    @property
    def seed(self) -> int:
        """The seed that pairs this run with those of other methods."""
        return int(self.config["seed"])

    @property
    def status(self) -> str:
        """One of "done", "diverged" and "unfinished"."""
        if self.result is None:
            return "unfinished"
        return "done" if self.value is not None else "diverged"

    @property
    def value(self) -> float | None:
        """The final value; None where the run diverged or is unfinished."""
        if self.result is None or self.result.get("status") == "diverged":
            return None
        return number(self.result.get("value"))


@dataclass(frozen=True)
class Comparison:
    """A compare folder: its question, the tuned choices, the runs of both stages.

    Example:
        >>> Comparison({"task": "digits", "small_batch": 64}, (), (), ()).large_batches
        []
    """

    question: Record
    choices: tuple[Record, ...]
    tuning: tuple[Run, ...]
    final: tuple[Run, ...]

    @property
    def small_batch(self) -> int:
        """Batch size of the reference."""
        return int(self.question["small_batch"])

    @property
    def large_batches(self) -> list[int]:
        """The batch sizes asked about, without the reference's, in order."""
        sizes = {int(b) for b in self.question.get("batch_sizes", ())}
        sizes |= {run.batch_size for run in self.final}
        return sorted(sizes - {self.small_batch})

    @property
    def seeds(self) -> list[int]:
        """The seeds of the final runs, asked for or found."""
        return sorted(
            {int(s) for s in self.question.get("seeds", ())} | {r.seed for r in self.final}
        )


def number(value: object) -> float | None:
    """A finite number, or None (null, NaN, infinity, not a number at all).

    Example:
        >>> number(3), number(None), number(float("nan")), number(True)
        (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_comparison(folder: Path) -> Comparison:
    """Read a compare folder.

    Raises:
        FileNotFoundError: there is no compare.json.
        ValueError: a file is not what its name says.

    Example:
        >>> read_comparison(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: a report needs nowhere/compare.json, which is not there: ...
    """
    path = folder / "compare.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"a report needs {path}, which is not there: give the folder that "
            "`largebatch compare --out` wrote"
        )
    question = read_object(path, ("task", "small_batch"))
    choices = folder / "choices.json"
    tuned = read_json(choices) if choices.is_file() else []
    if not isinstance(tuned, list):
        raise ValueError(f"{choices} must hold a JSON list: it holds {type(tuned).__name__}")
    return Comparison(
        question, tuple(tuned), read_runs(folder / "tuning"), read_runs(folder / "final")
    )


def read_runs(folder: Path) -> tuple[Run, ...]:
    """Every run below `folder` that got as far as its config, by name.

    Example:
        >>> read_runs(Path("nowhere"))
        ()
    """
    if not folder.is_dir():
        return ()
    return tuple(read_run(path.parent) for path in sorted(folder.glob("*/config.json")))


def read_run(folder: Path) -> Run:
    """Read one run folder that got as far as its config.

    Raises:
        FileNotFoundError: there is no config.json.
        ValueError: a file is not what its name says.

    Example:
        >>> read_run(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: a run folder has a config.json, nowhere has none: ...
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"a run folder has a config.json, {folder} has none: give a folder that "
            "`largebatch train --out` wrote, or one below a comparison's final/"
        )
    config = read_object(folder / "config.json", ("method", "batch_size", "seed"))
    environment, result = folder / "environment.json", folder / "result.json"
    return Run(
        folder.name,
        config,
        read_object(environment) if environment.is_file() else {},
        tuple(read_lines(folder / "metrics.jsonl")),
        read_object(result) if result.is_file() else None,
    )


def read_object(path: Path, keys: Sequence[str] = ()) -> Record:
    """Read a JSON object that has these keys.

    Raises:
        ValueError: it is none, or lacks one.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object: it holds {type(found).__name__}")
    if missing := [key for key in keys if key not in found]:
        raise ValueError(f"{path} must say {', '.join(missing)}: it has {', '.join(found)}")
    return found
