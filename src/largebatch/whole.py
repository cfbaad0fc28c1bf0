"""A whole number (of steps, of examples), or an error that says what it must be."""

from __future__ import annotations

__all__ = ["check_whole"]


def check_whole(name: str, value: object, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`, else raise ValueError.

    Example:
        >>> check_whole("total", 0.5)
        Traceback (most recent call last):
        ValueError: total must be a whole number of at least 1, got 0.5
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value
