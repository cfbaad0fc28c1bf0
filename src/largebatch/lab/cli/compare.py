"""largebatch compare: tune, run, report."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from ..compare import Interrupted, Question, compare, question_for
from ..compare.command import OPTIONS
from ..compare.question import SCALES
from .arguments import data_dir, names, numbers, positive
from .progress import stages

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add compare's arguments; what is not given comes from the task and the scale."""
    add = parser.add_argument
    add("--task", default="digits", help="a task of ours or package.module:factory")
    add("--methods", type=names, help="comma-separated, such as msgd,sngm+gnc: see the list verb")
    add("--batch-sizes", type=numbers, help="large batch sizes, comma-separated")
    add("--small-batch", type=positive, help="batch size of the momentum SGD reference")
    add("--worker-size", type=positive, help="examples of one worker")
    add("--epochs", type=positive, help="epochs of a final run")
    add("--tuning-epochs", type=positive, help="epochs of a tuning trial")
    add("--seeds", type=positive, help="number of final runs of each method and batch")
    add("--tuning-seeds", type=positive, help="number of runs of each tuning trial")
    add("--rates", type=positive, help="coarse rates of a grid")
    add("--alphas", type=positive, help="alphas of a grid")
    add("--widenings", type=int, help="how often grids may grow where a choice is at an edge")
    add("--evaluations", type=positive, help="scores during a final run")
    add("--train-size", type=positive, help="use the first so many training examples")
    add("--scale", choices=list(SCALES), default="short", help="how much computing it may take")
    add("--seed", type=int, default=0, help="first seed of the final runs")
    add("--device", help="cpu or cuda")
    add("--jobs", type=positive, help="runs at once (default: one a core, one on a GPU)")
    add("--data-dir", type=Path, help="folder of the data sets")
    add("--out", type=Path, help="folder of the comparison (default: runs/compare-TASK)")
    add("--json", action="store_true", help="print the results as JSON, nothing else")


def run(options: argparse.Namespace) -> int:
    """Compare and report."""
    given = {name: getattr(options, name) for name in OPTIONS}
    question = question_for(options.task, options.scale, options.seed, **given)
    safe = "".join(c if c.isalnum() else "-" for c in options.task)
    out: Path = options.out or Path("runs") / f"compare-{safe}"
    processes = options.jobs or (1 if question.device != "cpu" else os.cpu_count() or 1)
    # What the report needs is missing now or not at all, rather than after all runs.
    from ..report import summary_table, write_report

    try:
        with stages(_asked(question), quiet=options.json) as stage:
            rows = compare(question, out, data_dir(options), processes, stage)
    except Interrupted as stop:
        raise Interrupted(
            f"interrupted: finished runs are kept in {out}; the same command goes on from there"
        ) from stop
    page = write_report(out)
    print(json.dumps(rows, indent=1) if options.json else f"{summary_table(out)}\nReport: {page}")
    return 0


def _asked(question: Question) -> str:
    methods = ", ".join(question.methods)
    sizes = ", ".join(f"{b:,}" for b in question.batch_sizes)
    return (
        f"{question.task}: {methods} at batch {sizes}, against momentum SGD at "
        f"{question.small_batch:,}; {question.epochs} epochs, {len(question.seeds)} seeds"
    )
