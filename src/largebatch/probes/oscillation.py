r"""How the test accuracy swings from one epoch to the next.

    oscillation = mean over t of |a_{t+1} - a_t|        largest drop = max over t of a_t - a_{t+1}

a_t: test accuracy after epoch t, in percent; both in points. A curve that only rises oscillates by
its mean rise an epoch, and drops by 0.
Source: "Annealed gradient noise" (AGN), Section 5 and Fig. 1, where the accuracy "swings"; the
definition is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Oscillation", "oscillation"]


@dataclass(frozen=True)
class Oscillation:
    """The changes between epochs, in points.

    Attributes:
        oscillation: the mean magnitude.
        largest_drop: the largest loss of accuracy from one epoch to the next; 0 without any.
    """

    oscillation: float
    largest_drop: float


def oscillation(accuracies: Sequence[float]) -> Oscillation:
    """Measure how an accuracy changes between epochs. NaN where one of them is.

    Costs nothing of the training: it is of a run's records.

    Args:
        accuracies: one an epoch, in percent.

    Raises:
        ValueError: fewer than two epochs.

    Example:
        >>> oscillation([50.0, 90.0, 60.0, 90.0])
        Oscillation(oscillation=33.333333333333336, largest_drop=30.0)
    """
    if len(accuracies) < 2:
        raise ValueError(
            f"an oscillation needs the accuracies of at least two epochs, got {len(accuracies)}"
        )
    changes = torch.tensor(list(accuracies), dtype=torch.float64).diff()
    return Oscillation(float(changes.abs().mean()), float((-changes).clamp_min(0).max()))
