"""One run, from top to bottom: data → workers → combine → step → records."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from .alone import alone_in
from .batches import batches
from .checkpoint import load_checkpoint
from .config import RunConfig, to_dict
from .environment import environment
from .evaluate import evaluate
from .meter import Meter
from .probes import Asked, Probing, check_looks, chosen_by
from .processes import ALONE, Processes
from .records import RunFolder
from .saving import Saving
from .setup import Plan, Training, check_run, load_task, make_training, plan_run
from .stepping import refresh_if_due, take_step

__all__ = ["Progress", "train"]

Progress = Callable[[int, int], None]
"""Told after each step: steps done, steps in all."""


def train(
    config: RunConfig,
    out: Path,
    data_dir: Path | None = None,
    progress: Progress = lambda done, steps: None,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Run ``config`` in the folder ``out`` and return its result; a finished run is not repeated.

    An interrupted run goes on from its last checkpoint, with the numbers it would have had. Equal
    configurations give equal numbers, on the CPU to the bit.

    Several processes share each step's workers, and with them its batch; the first writes the
    folder. The numbers are one process's but for the rounding of sums, and dropout's draws.

    Args:
        config: the run.
        out: its folder.
        data_dir: where the task's data is.
        progress: called after each step with the steps done and the steps in all.
        processes: those that share the run; every one of them calls this alike.

    Returns:
        result.json's content; "diverged", with value None, where the loss became NaN or infinite.

    Raises:
        InputError: the configuration cannot run, or another process is at work in ``out``;
            nothing has been written.
    """
    torch.set_num_threads(config.threads)
    chosen = processes.each(chosen_by, config, processes)
    plan = _planned(config, data_dir, processes)
    processes.each(check_looks, chosen, config, plan)
    training = make_training(config, plan, processes)
    with ExitStack() as held:
        processes.first(held.enter_context, alone_in(out))
        return _run(config, out, plan, training, chosen, progress, processes)


def _run(
    config: RunConfig,
    out: Path,
    plan: Plan,
    training: Training,
    chosen: Sequence[Asked],
    progress: Progress,
    processes: Processes,
) -> dict[str, Any]:
    """The steps that are left of a run, with what is recorded of them."""
    folder = processes.first(RunFolder, out)
    ended = processes.first(folder.result, to_dict(config))
    if ended is not None:
        return ended
    start, seconds = load_checkpoint(folder.checkpoint, training, config, processes)
    measured_on = environment(processes.device(config.device), processes.ranks)
    processes.first(folder.start, to_dict(config), measured_on, start)
    meter = Meter(plan.steps, config.evaluations, seconds)
    probing = Probing(chosen, config, plan, training, folder.write, meter, processes)
    saving = Saving(folder, training, config, plan, processes)
    score: dict[str, float] = {}

    for step, x, y in batches(config, plan, start, processes.names):
        saving.before(step, meter.seconds)
        refresh_if_due(config, training, step, x, y)
        with probing.around(step, x, y):
            loss, rate = take_step(training, processes, x, y)
        meter.add(loss, training.workers.offset_to_weight_norm)

        done, epoch = step + 1, plan.epochs(step + 1)
        if meter.record_due(done):
            row = meter.take(processes.mean)
            processes.first(folder.write, "train", step=done, epoch=epoch, lr=rate, **row)
            if not math.isfinite(row["loss"]):
                break
        if meter.score_due(done):
            score = processes.first(evaluate, training.model, plan.task, plan.split.held_out)
            at = {"step": done, "epoch": epoch, "split": config.split}
            processes.first(folder.write, "eval", **at, **score, seconds=meter.seconds)
        # A record has just been taken, so that no loss of the next one is behind the checkpoint.
        if meter.record_due(done):
            saving.after(done, meter.seconds)
        progress(done, plan.steps)

    result = processes.first(_result, folder, plan, done, meter.seconds, score)
    processes.first(folder.finish, result)
    return result


def _planned(config: RunConfig, data_dir: Path | None, processes: Processes) -> Plan:
    processes.each(check_run, config, processes)
    # The first process may have to download the data, the others then find it.
    processes.first(_load, config.task, data_dir)
    return processes.each(plan_run, config, data_dir, processes)


def _load(task: str, data_dir: Path | None) -> None:
    load_task(task, data_dir)


def _result(
    folder: RunFolder,
    plan: Plan,
    updates: int,
    seconds: float,
    score: dict[str, float],
) -> dict[str, Any]:
    rows = [row for row in folder.rows() if row["kind"] == "train"]
    ratios = [r for row in rows if (r := row.get("offset_to_weight_norm"))]
    ended = rows[-1]["loss"] is not None and math.isfinite(score.get("loss", math.nan))
    return {
        "status": "done" if ended else "diverged",
        "metric": plan.task.metric,
        "value": score[plan.task.metric] if ended else None,
        "loss": score["loss"] if ended else None,
        "updates": updates,
        "examples": plan.examples(updates),
        "epochs": plan.epochs(updates),
        "seconds": seconds,
        "offset_to_weight_norm": sum(ratios) / len(ratios) if ratios else None,
    }
