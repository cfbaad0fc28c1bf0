r"""The radius of curvature that the layer-wise rules are made of, and its mean over a layer.

    R_i = |w_i / g_i|        the loss along w_i, taken as a parabola with its minimum at w_i = 0

    harmonic mean of R                       size(w) / ||g/w||_1       PercentDelta
    root mean square of R, weighted by g^2   ||w|| / ||g||             LARS and its kin
    R itself                                 |w_i / g_i|               CBLR

MCLR's |median(w)/median(g)| is a ratio of two statistics, and none of R. All stand for g -> 0 and
w -> 0 alike on what R itself does not: there R says nothing.
Source: CURV (Gao and Zhong 2020), Eq. 9-17 and Section 4.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["root_mean_square"]


def root_mean_square(
    weights: Tensor, gradients: Tensor, factor: float, *, decay: float = 0.0, eps: float = 0.0
) -> Tensor:
    """Factor times R's root mean square over each layer, weighted by g^2, from the layers' norms.

    Args:
        weights: ||w|| of each layer.
        gradients: ||g|| of each, or what stands for it.
        factor: multiplies it, such as a trust coefficient.
        decay: lambda, for ||g|| + lambda*||w|| in place of ||g||.
        eps: added to that.

    Returns:
        One a layer; 1 where ||w|| or ||g|| is 0, NaN where one is infinite, which 0 would hide.

    Example:
        >>> root_mean_square(torch.tensor([6.0, 0.0]), torch.tensor([2.0, 2.0]), 0.1)
        tensor([0.3000, 1.0000])
    """
    # A norm below the smallest normal number counts as zero: dividing by it may overflow.
    zero = torch.minimum(weights, gradients) < torch.finfo(weights.dtype).tiny
    broken = torch.maximum(weights, gradients).isinf()
    ratios: Tensor = factor * weights / (gradients + decay * weights + eps)
    return ratios.masked_fill(zero, 1.0).masked_fill(broken, torch.nan)
