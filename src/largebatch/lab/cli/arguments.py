"""Kinds of arguments that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    """Names, comma-separated."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def data_dir(options: argparse.Namespace) -> Path | None:
    """The data folder as an absolute path, so that other processes mean the same; None if unset."""
    found: Path | None = options.data_dir
    return None if found is None else found.expanduser().resolve()
