r"""How the loss at the workers' perturbed weights varies around the loss at the clean ones.

    f(d; w)    and    f(d; w + offset_i),   i = 1..M

f: mean loss; d: one batch, the same for all, with the same random numbers; w: weights; offset_i: by
which worker i looks elsewhere; M: workers. In units of the loss. If the offsets point to sharper
directions, the workers' losses vary much.
Source: Haruki et al. (GNC), Section 3.2, Fig. 4 (b), (c) and Fig. 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from .gradients import LossFn, mean_loss
from .places import Place, check_places
from .untouched import untouched

__all__ = ["PerturbedLoss", "perturbed_loss"]


@dataclass(frozen=True)
class PerturbedLoss:
    """One batch's losses at several weights.

    Attributes:
        loss: at the clean weights.
        worker_losses: at each worker's.
    """

    loss: float
    worker_losses: list[float]


def perturbed_loss(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    places: Sequence[Place],
    *,
    chunk: int | None = None,
) -> PerturbedLoss:
    """Measure the loss of ``batch`` at the clean weights and at each worker's.

    Costs a forward pass over the batch for each worker and one more, and no gradient.

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: tensors with the example in dimension 0.
        places: each worker's: ``[partial(workers.at, i) for i in range(workers.count)]``.
        chunk: examples of a forward pass.

    Raises:
        ValueError: no places.

    Example:
        >>> import torch, largebatch
        >>> model = nn.Linear(4, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        >>> workers = largebatch.Workers(model, optimizer, largebatch.RNC(0.1), count=2)
        >>> places = [lambda: workers.at(0), lambda: workers.at(1)]
        >>> found = perturbed_loss(model, lambda x: model(x).mean(), (torch.ones(1, 4),), places)
        >>> len(set([found.loss, *found.worker_losses]))
        3
    """
    check_places("perturbed_loss", places)

    def look() -> float:
        with untouched(model):  # the same random numbers and running statistics for each
            return mean_loss(loss_fn, batch, chunk=chunk)

    losses = []
    for place in places:
        with place():
            losses.append(look())
    return PerturbedLoss(look(), losses)
