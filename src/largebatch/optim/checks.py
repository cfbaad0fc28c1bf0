"""What a hyperparameter of an optimizer may be: each check returns the value to store, or raises.

Numbers are stored as Python floats (also those that came from NumPy), so that a state_dict holds
nothing that `torch.load(weights_only=True)` refuses. A learning rate may be a one-element tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch

__all__ = [
    "Check",
    "bounds",
    "clip_bounds",
    "count",
    "float_dtype",
    "fraction",
    "learning_rate",
    "nonnegative",
    "one_of",
    "positive",
    "positive_or_none",
]

Check = Callable[[str, object], object]


def nonnegative(name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number of at least 0.

    Example:
        >>> nonnegative("weight_decay", 1)
        1.0
        >>> nonnegative("weight_decay", -0.1)
        Traceback (most recent call last):
        ValueError: weight_decay must be a finite number of at least 0, got -0.1
    """
    if _finite(value) and value >= 0:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")


def positive(name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number above 0.

    Example:
        >>> positive("trust_coefficient", 0)
        Traceback (most recent call last):
        ValueError: trust_coefficient must be a finite number above 0, got 0
    """
    if _finite(value) and value > 0:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def fraction(name: str, value: object) -> float:
    """Return `value` as a float if it lies in [0, 1).

    Example:
        >>> fraction("momentum", 1.0)
        Traceback (most recent call last):
        ValueError: momentum must be at least 0 and below 1, got 1.0
    """
    if _finite(value) and 0 <= value < 1:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")


def learning_rate(name: str, value: object) -> float | torch.Tensor:
    """Return `value`, a finite number of at least 0 or a tensor that holds one.

    The tensor itself is kept (a scheduler fills it in place); its value is read here, once.

    Example:
        >>> learning_rate("lr", torch.tensor(0.1))
        tensor(0.1000)
        >>> learning_rate("lr", torch.ones(2))
        Traceback (most recent call last):
        ValueError: lr must be a number or a tensor of one element, got a tensor of shape (2,)
    """
    if not isinstance(value, torch.Tensor):
        return nonnegative(name, value)
    if value.numel() != 1:
        shape = tuple(value.shape)
        raise ValueError(
            f"{name} must be a number or a tensor of one element, got a tensor of shape {shape}"
        )
    nonnegative(name, value.item())
    return value


def positive_or_none(name: str, value: object) -> float | None:
    """Return `value` as a float if it is a finite number above 0, or None.

    Example:
        >>> positive_or_none("cap", None) is None
        True
    """
    return None if value is None else positive(name, value)


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


def clip_bounds(name: str, value: object) -> tuple[float, float] | None:
    """Return `value`, a pair of numbers with 0 <= low <= high and 0 < high, or None.

    Example:
        >>> clip_bounds("clip", (0, 10))
        (0.0, 10.0)
        >>> clip_bounds("clip", (1, 0))
        Traceback (most recent call last):
        ValueError: clip must be None or (low, high) with 0 <= low <= high and 0 < high, got (1, 0)
    """
    if value is None:
        return None
    try:
        low, high = map(float, value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if 0 <= low <= high and high > 0 and low < math.inf:
        return low, high
    raise ValueError(
        f"{name} must be None or (low, high) with 0 <= low <= high and 0 < high, got {value!r}"
    )


def count(name: str, value: object) -> int:
    """Return `value` if it is a whole number of at least 1.

    Example:
        >>> count("batches", 0)
        Traceback (most recent call last):
        ValueError: batches must be a whole number of at least 1, got 0
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def float_dtype(name: str, value: object) -> torch.dtype | None:
    """Return `value` if it is a floating-point dtype, or None for each parameter's own.

    Example:
        >>> float_dtype("state_dtype", torch.int8)
        Traceback (most recent call last):
        ValueError: state_dtype must be float64, float32, bfloat16, float16 or None, got torch.int8
    """
    if value is None or value in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        return value
    raise ValueError(f"{name} must be float64, float32, bfloat16, float16 or None, got {value!r}")


def one_of(*choices: object) -> Check:
    """Return a check that lets only `choices` pass.

    Example:
        >>> one_of("gradient", "velocity")("form", "nesterov")
        Traceback (most recent call last):
        ValueError: form must be one of 'gradient', 'velocity', got 'nesterov'
    """

    def check(name: str, value: object) -> object:
        # `is` for True, False and None: 1 == True, and a flag of 1 is more likely a slip.
        if any(value is c or (isinstance(c, str) and value == c) for c in choices):
            return value
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")

    return check


def _finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
