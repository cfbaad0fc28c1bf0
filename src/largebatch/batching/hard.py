r"""Train on the hard examples of a batch: drop its smallest losses.

    L = mean of the n - floor(discard*n) largest of l_1, ..., l_n

Symbols: l_i: loss of example i of the worker's own batch; n: how many there are.
Source: "Curvature-based" learning rates (CURV), Section 3.1: the smallest 30% are dropped in the
first 100 epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DiscardUntil", "hard_examples"]


def hard_examples(losses: Tensor, discard: float = 0.3) -> Tensor:
    """The mean of a batch's largest losses, without its smallest share ``discard``.

    Its gradient is zero for what is dropped. Every element is an example of its own, so losses of
    (n, tokens) drop tokens; take the mean over tokens before to drop sequences. Of equal losses
    the earlier are kept. A NaN is kept, so that it shows. The mean of half-precision losses is
    taken in float32. Nothing is read on the host; how many are kept follows from the shape.

    Args:
        losses: of the worker's examples, one or more dimensions, at least one element.
        discard: share to drop, 0 or more and below 1; the number dropped is rounded down, so at
            least one is kept.

    Returns:
        One number, 0-dim: float32, or float64 for losses in float64.

    Raises:
        ValueError: a loss that is already a mean, no losses, a share out of range.

    Example:
        >>> from largebatch.batching import hard_examples
        >>> float(hard_examples(torch.tensor([0.0, 4.0, 1.0, 3.0]), discard=0.5))
        3.5
    """
    _check_share(discard)
    if losses.ndim == 0 or losses.numel() == 0:
        raise ValueError(
            "hard_examples needs each example's own loss, got a tensor of shape "
            f"{tuple(losses.shape)}: compute the loss with reduction='none'"
        )
    flat = losses.flatten()
    kept = flat.numel() - _dropped(flat.numel(), discard)
    if kept < flat.numel():
        # A stable sort keeps the earlier of equals, and takes NaN for the largest.
        order = torch.sort(flat.detach(), descending=True, stable=True).indices
        flat = flat[order[:kept]]
    return flat.to(torch.promote_types(flat.dtype, torch.float32)).mean()


def _dropped(count: int, discard: float) -> int:
    # 0.29 * 100 is 28.999999999999996: a share that amounts to whole examples drops them all.
    return min(math.floor(discard * count * (1 + 1e-12)), count - 1)


def _check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"a share to discard must be 0 or more and below 1, got {share}")


@dataclass(frozen=True)
class DiscardUntil:
    """Which share to discard at a step: ``share`` before step ``step``, then nothing.

    The document stops after 100 epochs (CURV, Section 3.1): 100 times the steps of an epoch.

    Args:
        step: first step that discards nothing, 0 or more, counted in optimizer steps.
        share: to discard before, 0 or more and below 1.

    Raises:
        ValueError: a negative step, a share out of range.

    Example:
        >>> from largebatch.batching import DiscardUntil
        >>> discard = DiscardUntil(100 * 25)
        >>> discard(2499), discard(2500)
        (0.3, 0.0)
    """

    step: int
    share: float = 0.3

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.step < 0:
            raise ValueError(f"DiscardUntil needs step >= 0, got step={self.step}")
        _check_share(self.share)

    def __call__(self, step: int) -> float:
        """The share to discard at step ``step``."""
        return self.share if step < self.step else 0.0
