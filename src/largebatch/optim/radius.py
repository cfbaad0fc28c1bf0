"""Bounds of a radius of curvature, which the rules built on one are clipped to."""

from __future__ import annotations

from .checks import positive

__all__ = ["bounds"]


def bounds(name: str, value: object) -> tuple[float, float]:
    """Return `value` as two floats if it is a pair of finite numbers above 0, the lower first.

    Example:
        >>> bounds("bounds", (1, 10))
        (1.0, 10.0)
        >>> bounds("bounds", (10.0, 1.0))
        Traceback (most recent call last):
        ValueError: bounds must be the lower, then the higher bound, got (10.0, 1.0)
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} must be a pair (lower, higher), got {value!r}")
    lower, higher = (positive(f"{name}[{i}]", each) for i, each in enumerate(value))
    if lower > higher:
        raise ValueError(f"{name} must be the lower, then the higher bound, got {value!r}")
    return lower, higher
