"""What ends a command with one clear line: bad input (exit code 2), or a failure on the way (1)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["Failed", "InputError", "nearest"]


class InputError(ValueError):
    """What was asked for cannot be done, and nothing has been started."""


class Failed(RuntimeError):
    """What was asked for could not be finished, though the input was good; the text says why."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the closest of the known names, or all of them where none is close.

    Example:
        >>> nearest("lers", ["lars", "sngm"])
        "did you mean 'lars'?"
        >>> nearest("zzz", ["lars", "sngm"])
        'known: lars, sngm'
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + ", ".join(names)
