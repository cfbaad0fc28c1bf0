"""Filter-wise scaling: offsets as large as the filter that they move.

    c^(p) = ‖w^(p)‖,  p a filter of the weight (see largebatch.filters)
    c = 1             plain

Weights without filters (biases, batch norm) are not perturbed filter-wise.
Source: Haruki et al. (GNC), Eq. 5-6.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from ..contracts import Point, RateKind
from ..filters import filter_norms

__all__ = [
    "Scaling",
    "check_options",
    "check_seed",
    "check_width",
    "factors",
]

Scaling = Literal["filter", "plain"]


def factors(
    point: Point, alpha: float, scaling: Scaling, rate: RateKind | None
) -> list[float | Tensor | None]:
    """-alpha·eta·c of each weight; None for weights that are left where they are."""
    rates = point.rates(rate)
    if scaling == "plain":
        return [-alpha * eta for eta in rates]
    norms = point.once(filter_norms, lambda: filter_norms(point.weights, point.layouts))
    return [
        None if norm is None else norm * (-alpha * eta)
        for norm, eta in zip(norms, rates, strict=True)
    ]


def check_width(method: str, name: str, value: float) -> None:
    """Raise ValueError unless a width is a finite number of 0 or more."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{method} needs 0 <= {name} < infinity, got {name}={value}")


def check_seed(method: str, seed: int) -> None:
    """Raise ValueError unless the seed fits 64 signed bits."""
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"{method} needs a seed of 64 signed bits, got seed={seed}")


def check_options(method: str, alpha: float, scaling: str, rate: str | None) -> None:
    """Raise ValueError unless alpha is a finite number of 0 or more and the options are known."""
    check_width(method, "alpha", alpha)
    if scaling not in get_args(Scaling):
        raise ValueError(f"{method} needs scaling='filter' or 'plain', got {scaling!r}")
    if rate is not None and rate not in get_args(RateKind):
        raise ValueError(f"{method} needs rate='global', 'layer' or None, got {rate!r}")
