"""Bad input: one clear line for the user, exit code 2 on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "nearest"]


class InputError(ValueError):
    """What was asked for cannot be done, and nothing has been started."""


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
