"""largebatch ablate: a method against itself without one of its parts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..ablate import ABLATIONS, Ablation, ablate, ablation_for
from ..ablate.command import NEVER, OPTIONS, OWN
from ..ablate.question import SCALES
from ..records import write_json
from .arguments import (
    add_run_arguments,
    add_tuning_arguments,
    data_dir,
    folder_name,
    jobs,
    names,
    positive,
)
from .progress import stages

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ablate's arguments; what is not given comes from the task and the scale."""
    add = parser.add_argument
    add("ablation", metavar="WHAT", help=f"what is ablated: {', '.join(ABLATIONS)}")
    add("--task", default="digits", help="a task of ours or package.module:factory")
    add("--batch-size", type=positive, help="examples of an update (default: the task's largest)")
    add("--worker-size", type=positive, help="examples of one worker")
    add("--epochs", type=positive, help="epochs of a pilot's and of a final run's training")
    add_tuning_arguments(parser)
    add("--pilot-seeds", type=positive, help="pairs that the spread is first estimated from")
    add("--detect", type=float, metavar="POINTS", help="smallest difference worth knowing")
    add("--power", type=float, default=0.8, help="chance to see it, or to rule it out")
    add("--max-seeds", type=positive, help="most pairs that the power calculation may ask for")
    add("--seeds", type=positive, help="number of pairs, instead of the power calculation's")
    add("--looks", type=_looks, metavar="WHEN,...", help="when to look at alignment, or never")
    add("--look-seeds", type=positive, default=10, help="seeds of each arm that look at it")
    add("--look-examples", type=positive, default=256, help="examples that they look at it on")
    add_run_arguments(parser, SCALES)
    add("--out", type=Path, help="folder of the ablation (default: runs/ablate-WHAT-TASK)")
    add("--json", action="store_true", help="print the verdict as JSON, nothing else")


def run(options: argparse.Namespace) -> int:
    """Ablate and report."""
    given = {name: getattr(options, name) for name in (*OPTIONS, *OWN, "looks")}
    ablation = ablation_for(options.ablation, options.task, options.scale, options.seed, **given)
    name = f"ablate-{options.ablation}-{folder_name(options.task)}"
    out: Path = options.out or Path("runs") / name
    processes = jobs(options, ablation.question.device)
    # What the report needs is missing now or not at all, rather than after all runs.
    from ..report.ablation import summary, verdict_json, write_report

    with stages(_asked(ablation), quiet=options.json) as stage:
        ablate(ablation, out, data_dir(options), processes, stage)
    page, verdict = write_report(out), verdict_json(out)
    write_json(out / "verdict.json", json.loads(verdict))
    print(verdict if options.json else f"{summary(out)}\nReport: {page}")
    return 0


def _looks(text: str) -> tuple[str, ...]:
    return () if text == NEVER else names(text)


def _asked(ablation: Ablation) -> str:
    arms = ", ".join(arm.title for arm in ablation.design.arms)
    question = ablation.question
    return (
        f"{question.task}: {ablation.design.title} {arms}; batch {ablation.batch_size:,} in "
        f"workers of {question.worker_size:,}, {question.epochs} epochs"
    )
