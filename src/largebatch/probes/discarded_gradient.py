r"""How much the gradient of a batch grows where its small losses are discarded, layer by layer.

    g_p = gradient of the mean of the n - floor(p/100*n) largest of l_1, ..., l_n
    E|g_p| over the coordinates of a layer

l_i: loss of example i; n: examples of the batch; p: percent discarded. Unit: of loss per weight.
Which losses are largest is found over the whole batch, at the weights and with the random numbers
(of dropout, say) that the gradient then sees.
Source: Gao and Zhong (CURV), Section 3.1 and Fig. 9 (batch 8,192, p = 10 to 90, at the first
update).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..measure import wide
from .gradients import chunks, gradient, layers
from .untouched import untouched

__all__ = ["DiscardedGradient", "discarded_gradient"]


@dataclass(frozen=True)
class DiscardedGradient:
    """Mean sizes of the gradients that are left.

    Attributes:
        shares: percent of the examples discarded.
        layers: names of the layers.
        mean_magnitude: the mean of abs(g) over the layer, [share][layer].
    """

    shares: list[float]
    layers: list[str]
    mean_magnitude: list[list[float]]


def discarded_gradient(
    model: nn.Module,
    losses_fn: Callable[..., Tensor],
    batch: Sequence[Any],
    shares: Sequence[float] = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90),
    *,
    chunk: int | None = None,
) -> DiscardedGradient:
    """Measure the gradient of what is left after each share of the smallest losses is discarded.

    Costs a gradient over the batch for each share, and a forward pass. Of equal losses the later
    examples are discarded first; at least one example is kept.

    Args:
        model: whose parameters.
        losses_fn: each example's own loss, shape (examples,): ``losses_fn(*batch)``.
        batch: tensors with the example in dimension 0.
        shares: p, each in percent, 0 or more and below 100.
        chunk: examples of a forward pass.

    Raises:
        ValueError: no shares or one out of range, a loss that is not one number an example.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [6.0]])
        >>> look = lambda x: x[:, 0] + 0 * model(x)[:, 0].detach() + model(x)[:, 0] * 1e-9
        >>> found = discarded_gradient(model, look, (x,), [0, 50])
        >>> [round(each[0] * 1e9, 3) for each in found.mean_magnitude]
        [3.0, 4.5]
    """
    _check(shares)
    sizes = []
    with untouched(model):
        order = _hardest_first(model, losses_fn, batch, chunk)
        for share in shares:
            kept = _kept(order, share)
            # Each look starts from the same random numbers, as the one that ranked the losses.
            with untouched(model):
                found = gradient(model, _masked(losses_fn, kept), (*batch, kept), chunk=chunk)
            sizes.append([float(g.abs().mean()) for g in found])
    return DiscardedGradient([float(share) for share in shares], layers(model), sizes)


def _hardest_first(
    model: nn.Module, losses_fn: Callable[..., Tensor], batch: Sequence[Any], chunk: int | None
) -> Tensor:
    """The numbers of the examples, by loss; the earlier of equals first, NaN before all."""
    with untouched(model), torch.no_grad():  # untouched records gradients
        losses = torch.cat([_losses(losses_fn, piece) for piece in chunks(batch, chunk)])
    return torch.sort(losses, descending=True, stable=True).indices


def _kept(order: Tensor, share: float) -> Tensor:
    """Which examples are kept: a mask."""
    # 0.29 * 100 is 28.999999999999996: a share that amounts to whole examples drops them all.
    dropped = min(math.floor(share / 100 * len(order) * (1 + 1e-12)), len(order) - 1)
    kept = torch.ones_like(order, dtype=torch.bool)
    kept[order[len(order) - dropped :]] = False
    return kept


def _masked(losses_fn: Callable[..., Tensor], kept: Tensor) -> Callable[..., Tensor]:
    """A piece's part in the mean over those kept of the whole batch, as if it were a mean itself.

    The pieces' means are weighted by their examples, kept or not: hence the factor.
    """
    factor = len(kept) / int(kept.sum())

    def loss_fn(*piece: Any) -> Tensor:
        *inputs, mask = piece
        losses = _losses(losses_fn, inputs)
        return losses.to(wide(losses.dtype))[mask].sum() * (factor / len(mask))

    return loss_fn


def _losses(losses_fn: Callable[..., Tensor], piece: Sequence[Any]) -> Tensor:
    losses, length = losses_fn(*piece), len(piece[0])
    if losses.shape != (length,):
        raise ValueError(
            f"losses_fn must return each example's own loss, shape ({length},), got "
            f"{tuple(losses.shape)}: compute it with reduction='none', and take the mean over "
            "what one example has several of"
        )
    return losses


def _check(shares: Sequence[float]) -> None:
    if not shares:
        raise ValueError("discarded_gradient needs at least one share to discard, got none")
    wrong = [share for share in shares if not 0 <= share < 100]
    if wrong:
        raise ValueError(
            f"shares must be percents, 0 or more and below 100, got {wrong[0]}: at 100 nothing "
            "would be left"
        )
