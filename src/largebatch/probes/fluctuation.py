r"""How much a loss curve fluctuates about its own course.

    r_t = l_t - mean of l over the k points around t            only where all k are there
    fluctuation = sqrt( k/(k - 1) * mean of r_t^2 )

l: one loss a step or an epoch; k: window, odd. In units of the loss. A straight line has none,
however steep; white noise of variance s^2 on one gives the estimate s^2 without bias of the square
(the mean over the window holds a k-th of the point itself, hence the factor).
Source: Gao and Zhong (CURV), Fig. 8 and 11, where "fluctuation" is seen and not defined; ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Fluctuation", "fluctuation"]


@dataclass(frozen=True)
class Fluctuation:
    """A curve's fluctuation.

    Attributes:
        fluctuation: root mean square about the running mean, in units of the curve.
        window: points of the running mean.
    """

    fluctuation: float
    window: int


def fluctuation(curve: Sequence[float], window: int = 5) -> Fluctuation:
    """Measure how a curve varies about its running mean. NaN where the curve is.

    Costs nothing of the training: it is of a run's records. A window longer than a bend of the
    curve takes the bend for fluctuation; the first, steep epochs are best left out.

    Args:
        curve: one number a step or an epoch, such as the training loss.
        window: points of the running mean, odd and at least 3.

    Raises:
        ValueError: an even or too short window, a curve shorter than it.

    Example:
        >>> round(fluctuation([9.0, 8.0, 7.0, 6.0, 5.0]).fluctuation, 6)
        0.0
        >>> round(fluctuation([1.0, -1.0, 1.0, -1.0, 1.0], window=3).fluctuation, 3)
        1.633
    """
    if window < 3 or window % 2 == 0:
        raise ValueError(f"a running mean needs an odd window of at least 3, got window={window}")
    if len(curve) < window:
        raise ValueError(
            f"a running mean over {window} points needs a curve as long, got {len(curve)}: take a "
            "smaller window or a longer run"
        )
    half = window // 2
    points = torch.tensor(list(curve), dtype=torch.float64)
    residuals = points[half : len(points) - half] - points.unfold(0, window, 1).mean(1)
    mean_square = residuals.square().mean() * window / (window - 1)
    return Fluctuation(float(mean_square.sqrt()), window)
