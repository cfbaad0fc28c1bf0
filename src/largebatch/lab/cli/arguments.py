"""Kinds of arguments that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError

__all__ = ["data_dir", "names", "numbers", "positive"]


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
