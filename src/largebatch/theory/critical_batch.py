"""Time against examples: what a batch costs in steps, and what it wastes in examples.

    (S/S_min - 1)·(E/E_min - 1) = 1,      E = S·B,      B_crit = E_min/S_min
    eta(B) = eta_max/(1 + B_noise/B)

S steps and E examples to a fixed loss, S_min at an endless batch, E_min at an endlessly small one;
at B_crit both are twice their least. B_noise, and by way of it the simple noise scale, predicts
B_crit. Rates are those of SGD (Adam's grow more slowly).
Source: McCandlish et al. (2018), Eq. 2.6, 2.11 and 2.12.
"""

from __future__ import annotations

from .checks import above

__all__ = ["critical_batch_size", "examples_to_target", "lr_at_batch_size", "steps_to_target"]


def critical_batch_size(fewest_steps: float, fewest_examples: float) -> float:
    """B_crit = E_min/S_min, in examples a step.

    Raises:
        ValueError: a number that is not above 0.

    Example:
        >>> critical_batch_size(fewest_steps=1000, fewest_examples=2_000_000)
        2000.0
    """
    return above("fewest_examples", fewest_examples) / above("fewest_steps", fewest_steps)


def steps_to_target(batch_size: float, fewest_steps: float, critical: float) -> float:
    """S = S_min·(1 + B_crit/B), steps to the loss at batch size B.

    Raises:
        ValueError: a number that is not above 0.

    Example:
        >>> steps_to_target(2000, fewest_steps=1000, critical=2000)
        2000.0
    """
    ratio = above("critical", critical) / above("batch_size", batch_size)
    return above("fewest_steps", fewest_steps) * (1 + ratio)


def examples_to_target(batch_size: float, fewest_examples: float, critical: float) -> float:
    """E = E_min·(1 + B/B_crit), examples to the loss at batch size B.

    Raises:
        ValueError: a number that is not above 0.

    Example:
        >>> examples_to_target(8000, fewest_examples=2_000_000, critical=2000)
        10000000.0
    """
    ratio = above("batch_size", batch_size) / above("critical", critical)
    return above("fewest_examples", fewest_examples) * (1 + ratio)


def lr_at_batch_size(batch_size: float, largest_lr: float, noise: float) -> float:
    """eta(B) = eta_max/(1 + B_noise/B): linear in B far below the noise scale, flat above it.

    Raises:
        ValueError: a number that is not above 0.

    Example:
        >>> lr_at_batch_size(1000, largest_lr=0.8, noise=1000), lr_at_batch_size(1, 0.8, 79)
        (0.4, 0.01)
    """
    ratio = above("noise", noise) / above("batch_size", batch_size)
    return above("largest_lr", largest_lr) / (1 + ratio)
