"""largebatch report DIR: the report of a comparison or an ablation, made anew from its runs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ..errors import InputError
from ..records import read_json, write_json

__all__ = ["add_arguments", "run"]

ANSWERS = (
    "compare.json", "ablate.json", "choices.json", "power.json", "results.json", "verdict.json",
    "report.html",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add report's arguments."""
    add = parser.add_argument
    add("folder", type=Path, help="folder that compare or ablate wrote")
    add("--figure", type=Path, help="also write the main picture as an SVG file")
    add("--export", type=Path, help="also copy question, answers, environment and picture there")


def run(options: argparse.Namespace) -> int:
    """Write report.html and print the table."""
    from .. import report
    from ..report import ablation

    try:
        if (options.folder / "ablate.json").exists():
            page, table = ablation.write_report(options.folder), ablation.summary(options.folder)
            figure = ablation.figure_svg(options.folder)
        else:
            page, table = report.write_report(options.folder), report.summary_table(options.folder)
            figure = report.figure_svg(options.folder)
        if options.figure:
            options.figure.write_text(figure, encoding="utf-8")
        if options.export:
            _export(options.folder, options.export, figure)
    except (OSError, ValueError) as error:
        raise InputError(f"no report from {options.folder}: {error}") from error
    print(table)
    for written in filter(None, (options.figure, options.export)):
        print(f"Written: {written}")
    print(f"Report: {page}")
    return 0


def _export(folder: Path, target: Path, figure: str) -> None:
    """What is small enough to keep beside a paper or in a repository, without the run folders."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ANSWERS:
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    (target / "figure.svg").write_text(figure, encoding="utf-8")
    for environment in sorted((folder / "final").glob("*/environment.json"))[:1]:
        write_json(target / "environment.json", read_json(environment))
    trials = [
        read_json(run / "config.json") | {"result": read_json(run / "result.json")}
        for run in sorted((folder / "tuning").iterdir())
        if (run / "result.json").exists()
    ]
    write_json(target / "tuning.json", [_trial(t) for t in trials])


def _trial(run: dict[str, object]) -> dict[str, object]:
    kept = ("method", "batch_size", "lr", "alpha", "seed")
    result = run["result"]
    assert isinstance(result, dict)
    return {k: run[k] for k in kept} | {k: result[k] for k in ("status", "value", "loss")}
