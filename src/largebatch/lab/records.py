"""A run is a folder, written so that a crash at any byte loses at most the last line.

config.json        complete: enough to run it again
environment.json   what it ran on
metrics.jsonl      one measurement a line, units in names
checkpoint/        state.pt, the last one written; step-N.pt, those that are kept
result.json        there once the run has ended, done or diverged
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError

__all__ = [
    "RunFolder",
    "append_line",
    "differences",
    "read_json",
    "read_lines",
    "read_result",
    "write_json",
    "write_lines",
]


def write_json(path: Path, value: object) -> None:
    """Write JSON under another name, then rename: the file is old or new, never half.

    NaN and infinities become null.
    """
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(finite(value), file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The JSON of a file, or an InputError naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}): delete it, and what wrote it can be run again"
        ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, none where it is not there; a torn last line is left out.

    Raises:
        InputError: another line is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise InputError(
                f"{path}, line {number} is not valid JSON ({error}), and only the last line may be "
                "torn: repeat this run"
            ) from error
        if isinstance(row, dict):
            rows.append(row)
    return rows


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a JSON Lines file anew: old or new, never half."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    temporary.replace(path)


def append_line(path: Path, kind: str, **values: object) -> None:
    """Append one measurement to a JSON Lines file, in one write."""
    line = json.dumps(finite({"kind": kind, **values}), allow_nan=False) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of the run in ``folder`` if it has ended, else None."""
    path = folder / "result.json"
    return read_json(path) if path.exists() else None


def differences(found: Any, wanted: Mapping[str, Any]) -> list[str]:
    """The keys of ``wanted`` that ``found``, read from a file, has otherwise or not at all."""
    there = found if isinstance(found, dict) else {}
    return [k for k, v in wanted.items() if k not in there or there[k] != v]


def check_same(path: Path, wanted: Mapping[str, Any], other: str) -> None:
    """Check that a folder which has the file ``path`` is what ``wanted`` describes.

    Raises:
        InputError: it holds something else, ``other``.
    """
    if path.exists() and (differs := differences(read_json(path), wanted)):
        raise InputError(
            f"{path.parent} holds {other} (differs in {', '.join(differs)}): choose another --out"
        )


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities replaced by None, through dicts and lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def _before(row: Mapping[str, Any], step: int) -> bool:
    """Whether a measurement will not be made again from step ``step`` on."""
    made: int = row["step"]
    return made < step if row["kind"] == "probe" else made <= step


class RunFolder:
    """Writes one run; opening it again for the same run goes on where its checkpoint stands."""

    def __init__(self, path: Path) -> None:
        """Make the folder."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is, or would be."""
        return self.path / "checkpoint" / "state.pt"

    def kept(self, step: int) -> Path:
        """Where the checkpoint before step ``step`` is kept, or would be."""
        return self.path / "checkpoint" / f"step-{step}.pt"

    def kept_steps(self) -> list[int]:
        """Before which steps checkpoints are kept."""
        found = (
            re.fullmatch(r"step-(\d+)\.pt", each.name) for each in self.checkpoint.parent.glob("*")
        )
        return sorted(int(match[1]) for match in found if match)

    @property
    def metrics(self) -> Path:
        """The measurements."""
        return self.path / "metrics.jsonl"

    def result(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of ``config`` if its run has ended, else None.

        Raises:
            InputError: the folder holds the run of another configuration.
        """
        check_same(self.path / "config.json", config, "another run")
        return read_result(self.path)

    def start(self, config: object, environment: object, step: int) -> None:
        """Write what the run is; drop measurements after ``step``, which will be made again."""
        write_json(self.path / "config.json", config)
        write_json(self.path / "environment.json", environment)
        kept = [row for row in self.rows() if _before(row, step)] if step else []
        write_lines(self.metrics, kept)

    def rows(self) -> list[dict[str, Any]]:
        """The measurements so far; a torn last line is left out."""
        return read_lines(self.metrics)

    def write(self, kind: str, **values: object) -> None:
        """Append one measurement as one line."""
        append_line(self.metrics, kind, **values)

    def finish(self, result: Mapping[str, object]) -> None:
        """Write the result: from now on the run has ended."""
        write_json(self.path / "result.json", result)
