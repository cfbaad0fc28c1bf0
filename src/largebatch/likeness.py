"""Whether processes were given the same: a description of settings, and a number for it."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

import torch

__all__ = ["described", "digest"]

_PLAIN = (bool, int, float, str, type(None), torch.dtype)
BYTES = 6
"""A float64 holds whole numbers of up to 53 bits."""


def described(thing: object) -> str:
    """What ``thing`` was made with, the same in every process that made it alike.

    Of a dataclass its fields; what is neither plain nor a dataclass has its type's name alone.

    Example:
        >>> import largebatch as lb
        >>> described(lb.Switch(lb.GNC(0.1), lb.RNC(2.0), at_step=6))[:22]
        'Switch(first=GNC(alpha'
    """
    if isinstance(thing, _PLAIN):
        return repr(thing)
    name = type(thing).__qualname__
    if not is_dataclass(thing):
        return name
    inner = (f"{f.name}={described(getattr(thing, f.name))}" for f in fields(thing) if f.init)
    return f"{name}({', '.join(inner)})"


def digest(text: str) -> int:
    """A number of 48 bits; different texts practically never share one.

    Example:
        >>> digest("a") == digest("a"), digest("a") == digest("b")
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=BYTES).digest(), "big")
