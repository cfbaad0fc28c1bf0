"""What ends a command with one clear line: bad input (exit code 2), or a failure on the way (1)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["Elsewhere", "Failed", "InputError", "exit_code", "nearest"]


class InputError(ValueError):
    """What was asked for cannot be done, and nothing has been started."""


class Failed(RuntimeError):
    """What was asked for could not be finished, though the input was good; the text says why."""


class Elsewhere(Exception):
    """Another process of the run ends it and says why; this one ends with it, and says nothing.

    Attributes:
        code: the other's exit code.
    """

    def __init__(self, code: int) -> None:
        """Remember the code."""
        super().__init__(f"another process says why (exit code {code})")
        self.code = code


def exit_code(error: BaseException) -> int:
    """What a command ends with after this error.

    Example:
        >>> exit_code(InputError("")), exit_code(Failed("")), exit_code(KeyboardInterrupt())
        (2, 1, 130)
    """
    if isinstance(error, Elsewhere):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, InputError) else 1


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
