"""largebatch compare: tune, run, report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..compare import Question, compare, question_for
from ..compare.command import OPTIONS
from ..compare.question import SCALES
from .arguments import (
    add_run_arguments,
    add_tuning_arguments,
    data_dir,
    folder_name,
    jobs,
    names,
    numbers,
    positive,
)
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
    add("--seeds", type=positive, help="number of final runs of each method and batch")
    add_tuning_arguments(parser)
    add_run_arguments(parser, SCALES)
    add("--out", type=Path, help="folder of the comparison (default: runs/compare-TASK)")
    add("--json", action="store_true", help="print the results as JSON, nothing else")


def run(options: argparse.Namespace) -> int:
    """Compare and report."""
    given = {name: getattr(options, name) for name in OPTIONS}
    question = question_for(options.task, options.scale, options.seed, **given)
    out: Path = options.out or Path("runs") / f"compare-{folder_name(options.task)}"
    processes = jobs(options, question.device)
    # What the report needs is missing now or not at all, rather than after all runs.
    from ..report import summary_table, write_report

    with stages(_asked(question), quiet=options.json) as stage:
        rows = compare(question, out, data_dir(options), processes, stage)
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
