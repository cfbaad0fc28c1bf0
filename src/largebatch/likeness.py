"""Whether processes were given the same: a description of settings, and a number for it."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

__all__ = ["described", "digest"]

_OURS = __name__.partition(".")[0]
_PLAIN = (bool, int, float, str, type(None))
BYTES = 6
"""A float64 holds whole numbers of up to 53 bits."""


def described(thing: object) -> str:
    """What ``thing`` was made with, the same in every process that made it alike.

    Of this library's dataclasses the fields that are plain or such dataclasses. Of others the type
    alone: what a class of somebody else's holds may be its process's own, a rank or a device.

    Example:
        >>> import largebatch as lb
        >>> described(lb.Switch(lb.GNC(0.1), lb.RNC(2.0), at_step=6))[:22]
        'Switch(first=GNC(alpha'
    """
    if isinstance(thing, _PLAIN):
        return repr(thing)
    kind = type(thing)
    if not is_dataclass(kind) or kind.__module__.partition(".")[0] != _OURS:
        return kind.__qualname__
    inner = (f"{f.name}={described(getattr(thing, f.name))}" for f in fields(kind))
    return f"{kind.__qualname__}({', '.join(inner)})"


def digest(text: str) -> int:
    """A number of 48 bits; different texts practically never share one.

    Example:
        >>> digest("a") == digest("a"), digest("a") == digest("b")
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=BYTES).digest(), "big")
