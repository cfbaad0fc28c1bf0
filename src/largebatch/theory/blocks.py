"""How unequal the blocks of a gradient are, from the norms of its blocks.

    ratio  = ‖g‖/sum_s ‖g^(s)‖              in [1/√S, 1];  p(S) is its largest value over a run
    cosine = sum_s ‖g^(s)‖/(√S·‖g‖)         of g and the block-normalized gradient

so that cosine = 1/(√S·ratio), and the least cosine of a run is 1/(√S·p(S)).
Source: Zhao et al. (SNGM), Section 6, Eq. 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, sqrt

from .checks import at_least

__all__ = ["block_cosine", "block_ratio"]


def _norms(norms: Sequence[float]) -> list[float]:
    found = [at_least("a block's norm", float(n)) for n in norms]
    if not any(found):
        raise ValueError(
            f"at least one block needs a gradient, got the norms {found}: leave out a step whose "
            "gradient is zero, it has no direction"
        )
    return found


def block_ratio(norms: Sequence[float]) -> float:
    """‖g‖/sum_s ‖g^(s)‖ of one gradient: 1/√S where all blocks are alike, 1 where one has it all.

    Args:
        norms: the Euclidean norm of each of the S blocks.

    Raises:
        ValueError: a negative or not finite norm, or none above zero.

    Example:
        >>> block_ratio([3.0, 4.0]) == 5 / 7
        True
        >>> max(block_ratio(step) for step in ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 0.0]))
        1.0
    """
    found = _norms(norms)
    # Rounding must not leave the interval that the theorem is stated on.
    return min(hypot(*found) / sum(found), 1.0)


def block_cosine(norms: Sequence[float]) -> float:
    """cos(g, n), where n has each block of g divided by its own norm: block-wise SNGM's direction.

    S counts the blocks that have a gradient: where a block is zero, so is its direction.

    Args:
        norms: the Euclidean norm of each block.

    Raises:
        ValueError: a negative or not finite norm, or none above zero.

    Example:
        >>> block_cosine([1.0, 1.0, 1.0, 1.0])
        1.0
        >>> round(block_cosine([100.0, 1.0, 1.0, 1.0]), 3)
        0.515
    """
    found = [n for n in _norms(norms) if n]
    return min(sum(found) / (sqrt(len(found)) * hypot(*found)), 1.0)
