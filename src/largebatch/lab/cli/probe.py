"""largebatch probe RUN...: looks at runs' checkpoints, and a report of it with the runs' own rows.

OUT/RUN'S-FOLDER-NAME/probes.jsonl     what was measured now
OUT/report.html                        with what the runs measured of themselves
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..alone import alone_in
from ..errors import Failed, InputError
from ..records import read_lines
from .arguments import data_dir
from .progress import bar

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ..probes import Asked

__all__ = ["add_arguments", "run"]

EVERY = "1"
"""WHEN of a probe that is asked for by its name alone: wherever there is a checkpoint."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add probe's arguments."""
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs, shown side by side")
    add(
        "--probe",
        dest="probes",
        action="append",
        default=[],
        metavar="NAME[@WHEN]",
        help="what to look at, at the start and at each kept checkpoint; none: only report",
    )
    add("--out", type=Path, default=Path("probes"), help="folder of rows and report")
    add("--data-dir", type=Path, help="folder of the data sets")
    add("--json", action="store_true", help="print all rows as JSON, nothing else")


def run(options: argparse.Namespace) -> int:
    """Look, then write the report."""
    from ..probes import asked, planned, recorded
    from ..report.probes import write_probe_report

    chosen = [asked(text, EVERY) for text in options.probes]
    runs = [path.resolve() for path in options.runs]
    if len({each.name for each in runs}) < len(runs):
        raise InputError("two runs have folders of one name: their rows would be mixed")
    folder = data_dir(options)
    for each in runs:
        if chosen:
            planned(each, chosen, folder)
        else:  # a report alone needs no data
            recorded(each)
    try:
        with alone_in(options.out):
            _look(runs, chosen, options, folder)
            page = write_probe_report(options.out, runs, _command(options))
    except OSError as error:
        raise Failed(f"cannot write to {options.out}: {error.strerror or error}") from error
    print(json.dumps(_rows(options.out, runs), indent=1) if options.json else f"Report: {page}")
    return 0


def _look(
    runs: list[Path], chosen: list[Asked], options: argparse.Namespace, folder: Path | None
) -> None:
    from ..probes import probe_run

    with bar(quiet=options.json) as progress:
        for each in runs if chosen else ():
            rows = options.out / each.name / "probes.jsonl"
            task = progress.add_task(each.name, total=None, count="")

            def show(done: int, of: int, task: TaskID = task) -> None:
                progress.start()
                progress.update(task, completed=done, total=of, count=f"{done}/{of} places")

            probe_run(each, chosen, rows, folder, show)


def _rows(out: Path, runs: list[Path]) -> dict[str, list[dict[str, object]]]:
    """What each run measured of itself, and what was measured now."""
    return {
        each.name: [
            row
            for path in (each / "metrics.jsonl", out / each.name / "probes.jsonl")
            for row in read_lines(path)
            if row.get("kind") == "probe"
        ]
        for each in runs
    }


def _command(options: argparse.Namespace) -> str:
    parts = ["largebatch", "probe", *map(str, options.runs)]
    parts += [part for text in options.probes for part in ("--probe", text)]
    return shlex.join([*parts, "--out", str(options.out)])
