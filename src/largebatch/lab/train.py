"""One run, from top to bottom: data → workers → combine → step → records."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .batches import batches
from .checkpoint import load_checkpoint, save_checkpoint
from .config import RunConfig, to_dict
from .environment import environment
from .evaluate import evaluate
from .meter import Meter
from .records import RunFolder
from .setup import Plan, make_training, plan_run

__all__ = ["Progress", "train"]

Progress = Callable[[int, int], None]
"""Told after each step: steps done, steps in all."""


def train(
    config: RunConfig,
    out: Path,
    data_dir: Path | None = None,
    progress: Progress = lambda done, steps: None,
) -> dict[str, Any]:
    """Run ``config`` in the folder ``out`` and return its result; a finished run is not repeated.

    An interrupted run goes on from its last checkpoint, with the numbers it would have had. Equal
    configurations give equal numbers, on the CPU to the bit.

    Args:
        config: the run.
        out: its folder.
        data_dir: where the task's data is.
        progress: called after each step with the steps done and the steps in all.

    Returns:
        result.json's content; "diverged", with value None, where the loss became NaN or infinite.

    Raises:
        InputError: the configuration cannot run; nothing has been written.
    """
    torch.set_num_threads(config.threads)
    plan = plan_run(config, data_dir)
    model, optimizers, schedulers, workers, loss_fn = training = make_training(config, plan)
    folder = RunFolder(out)
    ended = folder.result(to_dict(config))
    if ended is not None:
        return ended
    first, seconds = load_checkpoint(folder.checkpoint, training, config)
    folder.start(to_dict(config), environment(config.device), first)
    meter = Meter(plan.steps, config.evaluations, seconds)
    score: dict[str, float] = {}
    saved = time.monotonic()

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        return loss_fn(model(inputs), targets)

    for step, x, y in batches(config, plan, first):
        if workers.refreshes and step % config.refresh_every == 0:
            seen = config.refresh_examples
            workers.refresh(loss_of, x[:seen], y[:seen])
        loss = workers.backward(loss_of, x, y)
        rate = float(schedulers[0].get_last_lr()[0])
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        meter.add(loss, workers.offset_to_weight_norm)

        done, epoch = step + 1, plan.epochs(step + 1)
        if meter.record_due(done):
            row = meter.take()
            folder.write("train", step=done, epoch=epoch, lr=rate, **row)
            if not math.isfinite(row["loss"]):
                break
        if meter.score_due(done):
            score = evaluate(model, plan.task, plan.split.held_out)
            at = {"step": done, "epoch": epoch, "split": config.split}
            folder.write("eval", **at, **score, seconds=meter.seconds)
        late = time.monotonic() - saved >= config.checkpoint_seconds
        # A record has just been taken, so that no loss of the next one is behind the checkpoint.
        if late and meter.record_due(done) and done < plan.steps:
            save_checkpoint(folder.checkpoint, training, config, done, meter.seconds)
            saved = time.monotonic()
        progress(done, plan.steps)

    result = _result(folder, plan, done, meter.seconds, score)
    folder.finish(result)
    return result


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
