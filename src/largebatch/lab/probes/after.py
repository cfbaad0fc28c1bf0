"""Probes of a run that has been made: at the checkpoints that it kept, and at its start.

    checkpoint before step s  →  the step that the run made from there, looked at  →  a row

A row once written is not measured again, so that what was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from ..batches import batches
from ..checkpoint import load_checkpoint
from ..config import RunConfig, from_dict, to_dict
from ..errors import InputError
from ..meter import Meter
from ..processes import ALONE
from ..records import (
    RunFolder,
    append_line,
    check_same,
    read_json,
    read_lines,
    write_json,
    write_lines,
)
from ..setup import Plan, make_training, plan_run
from ..stepping import refresh_if_due, take_step
from .checks import check_looks, check_workers
from .probing import Probing
from .when import Asked

__all__ = ["Progress", "planned", "probe_run", "recorded"]

Progress = Callable[[int, int], None]
"""Told after each checkpoint: how many are done, and how many there are."""


def recorded(run: Path) -> RunConfig:
    """The configuration of a run's folder.

    Raises:
        InputError: it is no run's folder.
    """
    path = run / "config.json"
    if not path.is_file():
        raise InputError(
            f"{run} is no run's folder: it has no config.json (give one that largebatch train "
            "--out wrote, or one below a comparison's final/)"
        )
    return from_dict(read_json(path))


def planned(
    run: Path, chosen: Sequence[Asked], data_dir: Path | None = None
) -> tuple[RunConfig, Plan, list[int]]:
    """A run, what it did, and before which of its steps it can be looked at: start, checkpoints.

    Raises:
        InputError: no such run or data; a probe that cannot look at this run.
    """
    config = recorded(run)
    check_workers(chosen, config)
    plan = plan_run(config, data_dir)
    steps = sorted({0, *RunFolder(run).kept_steps()} & set(range(plan.steps)))
    _check_alone(run, chosen, plan, steps)
    check_looks(chosen, config, plan, steps)
    return config, plan, steps


def _check_alone(run: Path, chosen: Sequence[Asked], plan: Plan, steps: Sequence[int]) -> None:
    """A checkpoint of several processes has each one's part of the workers' noise."""
    path = run / "environment.json"
    made_on = read_json(path).get("processes", 1) if path.is_file() else 1
    late = any(each.when.due(step, plan) for each in chosen for step in steps if step)
    if made_on > 1 and late:
        raise InputError(
            f"{run} was made by {made_on} processes, and its checkpoints cannot be looked at in "
            "one: measure while it runs (train --probe), or look at its start (NAME@start)"
        )


def probe_run(
    run: Path,
    chosen: Sequence[Asked],
    rows: Path,
    data_dir: Path | None = None,
    progress: Progress = lambda done, of: None,
) -> int:
    """Take the probes that are due at the run's start and checkpoints, as lines of ``rows``.

    The run's folder stays as it is.

    Args:
        run: the folder.
        chosen: which probes, and where.
        rows: a JSON Lines file, in a folder of this run's own; what is there is not measured anew.
        data_dir: where the data is.
        progress: called after each checkpoint.

    Returns:
        How many rows were added.

    Raises:
        InputError: no such run or data; a probe that cannot look at this run.
        Failed: a probe could not look.
    """
    config, plan, steps = planned(run, chosen, data_dir)
    _same_run(rows.with_name("config.json"), config)
    torch.set_num_threads(config.threads)
    kept = RunFolder(run)
    there = read_lines(rows)
    write_lines(rows, there)  # without a last line that was torn
    known = {(row.get("probe"), row.get("step")) for row in there}
    added = 0
    for done, step in enumerate(steps):
        due = [
            each
            for each in chosen
            if each.when.due(step, plan) and (each.probe.name, step) not in known
        ]
        if due:
            _look(config, plan, kept.kept(step) if step else None, step, due, rows)
            added += len(due)
        progress(done + 1, len(steps))
    return added


def _same_run(path: Path, config: RunConfig) -> None:
    """The rows' folder is this run's from now on.

    Raises:
        InputError: it is another's.
    """
    wanted = to_dict(config)
    check_same(path, wanted, "rows of another run")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


def _look(
    config: RunConfig, plan: Plan, checkpoint: Path | None, step: int, due: list[Asked], rows: Path
) -> None:
    """Make the run's step ``step`` once more, with the probes around it."""
    training = make_training(config, plan)
    if checkpoint is not None:
        load_checkpoint(checkpoint, training, config)
    write = partial(append_line, rows)
    clock = Meter(plan.steps, 1, 0.0)
    probing = Probing(due, config, plan, training, write, clock, strict=True)
    _, x, y = next(batches(config, plan, step))
    refresh_if_due(config, training, step, x, y)
    with probing.around(step, x, y):
        take_step(training, ALONE, x, y)
