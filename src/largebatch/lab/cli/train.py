"""largebatch train: one run in one folder; started again it goes on, finished it answers."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from largebatch.parallel.waiting import WaitedInVain

from ..config import RunConfig, from_dict, override
from ..errors import Failed, InputError
from ..processes import Processes, joined
from ..recipes import recipe
from ..records import read_json
from ..train import train
from ..whole import full_batch
from .arguments import data_dir, positive
from .progress import bar

__all__ = ["add_arguments", "run"]

FULL = "full"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add train's arguments."""
    add = parser.add_argument
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--recipe", default=None, help="named settings to start from; see list")
    start.add_argument("--config", type=Path, help="a config.json to start from")
    add("--task", help="a task of ours or package.module:factory")
    add("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="one setting")
    add("--batch", type=_batch, metavar="N|full", help="batch size; full: all training examples")
    add("--scale", choices=("smoke", "short", "full"), default="full", help="2, 40 or all epochs")
    add("--seed", type=int, help="seed of weights, batches and noise")
    add(
        "--probe",
        dest="probes",
        action="append",
        default=[],
        metavar="NAME@WHEN",
        help="measure a probe every so many steps (hessian@10), @epoch, @start or @end; see list",
    )
    add("--keep", metavar="WHEN", help="keep checkpoints, likewise, for largebatch probe")
    add("--device", help="cpu or cuda")
    add("--data-dir", type=Path, help="folder of the data sets")
    add("--out", type=Path, help="the run's folder (default: runs/NAME-OF-THE-CONFIG)")
    add("--json", action="store_true", help="print the result as JSON, nothing else")


def run(options: argparse.Namespace) -> int:
    """Train; exit code 0 also where the run diverged, which is a result."""
    with joined() as processes:
        config = processes.first(_config, options)
        out: Path = options.out or Path("runs") / config.name()
        result = _trained(options, config, out, processes)
        if processes.rank == 0:
            print(json.dumps(result, indent=1) if options.json else _told(result, out))
    return 0


def _trained(
    options: argparse.Namespace, config: RunConfig, out: Path, processes: Processes
) -> dict[str, Any]:
    """The result; what ends the run on its way, in one line."""
    folder = processes.each(data_dir, options)
    with bar(quiet=options.json or processes.rank > 0) as progress:
        row = progress.add_task(f"{config.method} on {config.task}", total=None, count="")

        def show(done: int, steps: int) -> None:
            progress.start()
            progress.update(row, completed=done, total=steps, count=f"{done}/{steps} updates")

        try:
            return train(config, out, folder, show, processes)
        except KeyboardInterrupt as stop:
            kept = "goes on from its checkpoint" if (out / "checkpoint").exists() else "starts anew"
            raise KeyboardInterrupt(f"interrupted: the same command {kept} in {out}") from stop
        except OSError as error:
            kind = Failed if progress.tasks[row].completed else InputError
            raise kind(f"cannot write to {out}: {error.strerror or error}") from error
        except WaitedInVain as error:
            raise Failed(str(error)) from error


def _config(options: argparse.Namespace) -> RunConfig:
    if options.config:
        try:
            config = from_dict(read_json(options.config))
        except OSError as error:
            raise InputError(f"cannot read {options.config}: {error.strerror}") from error
    else:
        config = recipe(options.recipe) if options.recipe else RunConfig()
    epochs = {"smoke": 2, "short": 40}.get(options.scale, config.epochs)
    config = replace(config, epochs=min(epochs, config.epochs))
    given = {k: getattr(options, k) for k in ("task", "seed", "device", "keep")}
    given["probes"] = (*config.probes, *options.probes) or None
    config = replace(config, **{k: v for k, v in given.items() if v is not None})
    sets = dict(map(_pair, options.sets))
    return override(config, sets) if options.batch is None else _sized(config, sets, options)


def _sized(config: RunConfig, sets: dict[str, str], options: argparse.Namespace) -> RunConfig:
    """The configuration with the batch asked for, and with all else that is set."""
    if "batch_size" in sets:
        raise InputError("--batch and --set batch_size both say how large the batch is: give one")
    if options.batch == FULL:
        given = {key: sets.pop(key) for key in ("worker_size",) if key in sets}
        return override(full_batch(override(config, sets), data_dir(options)), given)
    if config.worker_size == config.batch_size:  # one worker has all, and goes on having it
        sets = {"worker_size": str(options.batch), **sets}
    return override(config, {**sets, "batch_size": str(options.batch)})


def _batch(text: str) -> int | str:
    return FULL if text == FULL else positive(text)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set needs KEY=VALUE, got {text!r}")
    return key, value


def _told(result: dict[str, Any], out: Path) -> str:
    value = result["value"]
    shown = "diverged" if value is None else f"{result['metric']} {value:.2f}"
    return f"{shown} after {result['updates']:,} updates, {result['seconds']:.1f} s\nRun: {out}"
