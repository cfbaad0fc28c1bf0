r"""How smooth the loss is along its gradient, plain and convolved with the workers' offsets.

    w_s = w_0 - r_s*eta*g_0,    r_s = 1/2 ... 2, eight steps evenly

    loss_range       max_s f(w_s) - min_s f(w_s)
    gradient_range   max_s ||g_0 - g_s|| - min_s ||g_0 - g_s||
    largest_ratio    max_s ||g_0 - g_s|| / ||w_0 - w_s||           a lower bound of f's smoothness L

f: mean loss of the batch; g: its gradient, over all parameters in training; eta: learning rate.
Convolved is f(w) = (1/M) sum_i f(d_i; w + offset_i) with the batch shared out among the M workers
as they do in training (GNC, Eq. 3); there g and the line are those of the convolved loss, and the
offsets are those of w_0 all along the line. Units: of the loss, of loss per weight, of loss per
squared weight.
Source: Haruki et al. (GNC), Appendix A.6 and Fig. 5, 9, after Santurkar et al. (2018). They give
GNC's on the convolved loss and the baseline's on the plain one; here are both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..clean import CleanWeights
from ..measure import wide
from .gradients import LossFn, loss_and_gradient, trained
from .places import Place, check_places
from .untouched import untouched

__all__ = ["LineSmoothness", "Smoothness", "smoothness"]

MULTIPLES = torch.linspace(0.5, 2.0, 8, dtype=torch.float64).tolist()


@dataclass(frozen=True)
class LineSmoothness:
    """The three indicators of one loss, and what they are made of.

    Attributes:
        losses: at each step of the line.
        gradient_distances: ||g_0 - g_s|| at each.
        ratios: ||g_0 - g_s|| / ||w_0 - w_s|| at each; NaN where the gradient or the rate is zero.
        loss_range: largest loss less the smallest.
        gradient_range: largest distance less the smallest.
        largest_ratio: of the ratios.
        loss: at w_0.
        gradient_norm: ||g_0||.
    """

    losses: list[float]
    gradient_distances: list[float]
    ratios: list[float]
    loss_range: float
    gradient_range: float
    largest_ratio: float
    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class Smoothness(LineSmoothness):
    """The indicators of the plain loss, and with places of the convolved one.

    Attributes:
        rates: r_s*eta, how far along the gradient each step is.
        convolved: the same of the convolved loss; None without places.
    """

    rates: list[float]
    convolved: LineSmoothness | None


def smoothness(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    lr: float,
    places: Sequence[Place] | None = None,
    *,
    chunk: int | None = None,
) -> Smoothness:
    """Measure the three indicators along the gradient of ``batch`` at the present weights.

    Costs nine gradients over the batch, and nine more with places; six copies of
    the parameters.

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: tensors with the example in dimension 0.
        lr: eta.
        places: each worker's, for the convolved loss:
            ``[partial(workers.at, i) for i in range(workers.count)]``.
        chunk: examples of a forward pass; of a worker's, at most those of its share.

    Raises:
        ValueError: a negative rate, places that are none or do not divide the batch.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> parabola = lambda x: 3 * model(x).square().mean()
        >>> found = smoothness(model, parabola, (torch.ones(4, 1),), lr=0.1)
        >>> round(found.largest_ratio, 4), found.convolved
        (6.0, None)
    """
    if not lr >= 0:
        raise ValueError(f"smoothness needs a learning rate of 0 or more, got lr={lr}")
    rates = [multiple * lr for multiple in MULTIPLES]

    def look(shares: Sequence[tuple[Place, Sequence[Any]]]) -> LineSmoothness:
        return _along(lambda shifts: _evaluate(model, loss_fn, shares, shifts, chunk), rates)

    plain = look([(nullcontext, batch)])
    convolved = None if places is None else look(_shared(batch, places))
    return Smoothness(**vars(plain), rates=rates, convolved=convolved)


Evaluate = Callable[[Sequence[Tensor | None]], tuple[float, list[Tensor]]]


@torch.no_grad()
def _along(evaluate: Evaluate, rates: Sequence[float]) -> LineSmoothness:
    """The indicators of the loss that ``evaluate`` gives, with its gradient, at shifted weights."""
    start, g0 = evaluate([])
    norm = _norm(g0)
    losses, distances = [], []
    for rate in rates:
        loss, g = evaluate([each * -rate for each in g0])
        losses.append(loss)
        distances.append(_norm([a - b for a, b in zip(g0, g, strict=True)]))
    # Not max and min of Python: of numbers with a NaN among them they depend on the order.
    f, d = (torch.tensor(each, dtype=torch.float64) for each in (losses, distances))
    ratios = d / (torch.tensor(rates, dtype=torch.float64) * norm)
    return LineSmoothness(
        losses,
        distances,
        ratios.tolist(),
        float(f.max() - f.min()),
        float(d.max() - d.min()),
        float(ratios.max()),
        start,
        norm,
    )


def _evaluate(
    model: nn.Module,
    loss_fn: LossFn,
    shares: Sequence[tuple[Place, Sequence[Any]]],
    shifts: Sequence[Tensor | None],
    chunk: int | None,
) -> tuple[float, list[Tensor]]:
    """Mean over the places, each with its share of the batch, of the loss there plus a shift.

    The shift comes on top of a place's offset, which so does not depend on it.
    """
    weights, clean = trained(model), CleanWeights()
    mean, total = 0.0, [torch.zeros_like(w, requires_grad=False) for w in weights]
    with untouched(model):  # the same random numbers and running statistics for each step
        for place, share in shares:
            with place(), clean.moved(weights, shifts):
                torch.clear_autocast_cache()  # its cast weights are those of before the move
                loss, found = loss_and_gradient(model, loss_fn, share, chunk=chunk)
            torch.clear_autocast_cache()
            mean += loss / len(shares)
            for sum_, each in zip(total, found, strict=True):
                sum_.add_(each, alpha=1 / len(shares))
    return mean, total


def _shared(batch: Sequence[Any], places: Sequence[Place]) -> list[tuple[Place, Sequence[Any]]]:
    """Each worker's place with its share of the batch."""
    check_places("smoothness", places)
    length, count = len(batch[0]), len(places)
    if length % count:
        raise ValueError(
            f"{count} workers' places cannot share a batch of {length}: give one that they divide"
        )
    size = length // count
    cut = [tuple(each[i * size : (i + 1) * size] for each in batch) for i in range(count)]
    return list(zip(places, cut, strict=True))


def _norm(tensors: Sequence[Tensor]) -> float:
    """The length of all tensors as one vector."""
    norms = [torch.linalg.vector_norm(t, dtype=wide(t.dtype)).double().cpu() for t in tensors]
    return float(torch.linalg.vector_norm(torch.stack(norms)))
