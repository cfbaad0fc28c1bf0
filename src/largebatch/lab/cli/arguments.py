"""Kinds of arguments that several verbs share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError

__all__ = [
    "add_run_arguments",
    "add_tuning_arguments",
    "data_dir",
    "folder_name",
    "jobs",
    "names",
    "numbers",
    "positive",
]


def add_tuning_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what verbs share that tune: how long trials are, and how many."""
    add = parser.add_argument
    add("--tuning-epochs", type=positive, help="epochs of a tuning trial")
    add("--tuning-seeds", type=positive, help="number of runs of each tuning trial")
    add("--rates", type=positive, help="coarse rates of a grid")
    add("--alphas", type=positive, help="alphas of a grid")
    add("--widenings", type=int, help="how often grids may grow where a choice is at an edge")


def add_run_arguments(parser: argparse.ArgumentParser, scales: Iterable[str]) -> None:
    """Add what verbs share that make many runs: how much of them, on what, from where."""
    add = parser.add_argument
    add("--evaluations", type=positive, help="scores during a final run")
    add("--train-size", type=positive, help="use the first so many training examples")
    add("--scale", choices=list(scales), default="short", help="how much computing it may take")
    add("--seed", type=int, default=0, help="first seed of the final runs")
    add("--device", help="cpu or cuda")
    add("--jobs", type=positive, help="runs at once (default: one a core, one on a GPU)")
    add("--data-dir", type=Path, help="folder of the data sets")


def jobs(options: argparse.Namespace, device: str) -> int:
    """How many runs at once."""
    return options.jobs or ((os.cpu_count() or 1) if device == "cpu" else 1)


def folder_name(text: str) -> str:
    """A task's name as a part of a folder's."""
    return "".join(c if c.isalnum() else "-" for c in text)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, got {text!r}")
    return value


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, comma-separated."""
    return tuple(positive(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names, comma-separated, at least one."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError("at least one name is needed, got none")
    return found


def data_dir(options: argparse.Namespace) -> Path | None:
    """The data folder as an absolute path, so that other processes mean the same; None if unset.

    Raises:
        InputError: it is not there; a name mistyped would otherwise start a download.
    """
    found: Path | None = options.data_dir
    if found is None:
        return None
    if not found.expanduser().is_dir():
        raise InputError(
            f"--data-dir {found} is not a folder: name the one that has the data, or make it "
            "first to download into it"
        )
    return found.expanduser().resolve()
