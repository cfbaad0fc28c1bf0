r"""How far runs of one setting lie apart, epoch by epoch.

    s_t = sqrt( sum_r (a_rt - mean_r a_rt)^2 / (R - 1) )        dispersion = mean over t of s_t

a_rt: what run r measured at epoch t, a loss or an accuracy; R: runs, which differ in their seed
only. In units of a; s_t^2 is unbiased.
Source: Gao and Zhong (CURV), Fig. 10-14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Dispersion", "dispersion"]


@dataclass(frozen=True)
class Dispersion:
    """The deviation of several runs' curves.

    Attributes:
        dispersion: mean over the epochs of their deviations.
        by_epoch: the standard deviation over the runs at each.
        runs: how many there were.
    """

    dispersion: float
    by_epoch: list[float]
    runs: int


def dispersion(curves: Sequence[Sequence[float]]) -> Dispersion:
    """Measure how far several runs' curves lie apart. NaN where one of them is.

    Costs nothing of the training: it is of runs' records.

    Args:
        curves: of each run, one number an epoch, all equally many.

    Raises:
        ValueError: fewer than two runs, no epochs, curves of different lengths.

    Example:
        >>> found = dispersion([[1.0, 5.0], [3.0, 5.0]])
        >>> round(found.dispersion ** 2, 6), round(found.by_epoch[0] ** 2, 6), found.by_epoch[1]
        (0.5, 2.0, 0.0)
    """
    if len(curves) < 2:
        raise ValueError(f"a dispersion needs at least two runs, got {len(curves)}")
    lengths = sorted({len(curve) for curve in curves})
    if len(lengths) > 1 or lengths == [0]:
        raise ValueError(
            f"runs must have equally many epochs, at least one, got {lengths}: cut the longer "
            "ones, or leave out a run that ended early"
        )
    table = torch.tensor([list(curve) for curve in curves], dtype=torch.float64)
    deviations = table.std(0)
    return Dispersion(float(deviations.mean()), deviations.tolist(), len(curves))
