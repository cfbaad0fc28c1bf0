"""What a number of a formula may be: each check returns it, or names what it breaks."""

from __future__ import annotations

from math import isfinite

__all__ = ["above", "at_least", "fraction", "within"]


def above(name: str, value: float, least: float = 0.0) -> float:
    """``value`` where it is finite and above ``least``; else ValueError."""
    if not (isfinite(value) and value > least):
        raise ValueError(f"{name} must be finite and above {least:g}, got {name}={value}")
    return value


def at_least(name: str, value: float, least: float = 0.0) -> float:
    """``value`` where it is finite and ``least`` or more; else ValueError."""
    if not (isfinite(value) and value >= least):
        raise ValueError(f"{name} must be finite and at least {least:g}, got {name}={value}")
    return value


def fraction(name: str, value: float) -> float:
    """``value`` where it is in [0, 1), as a momentum must be; else ValueError."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {name}={value}")
    return value


def within(name: str, value: float, low: float, high: float) -> float:
    """``value`` where it is in [low, high]; else ValueError."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {name}={value}")
    return value
