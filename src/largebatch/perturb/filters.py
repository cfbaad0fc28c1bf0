"""Filter-wise scaling: offsets as large as the filter that they move.

    c^(p) = ‖w^(p)‖,  p a slice of dimension 0 of a weight with two or more dimensions
    c = 1             plain

Weights with fewer dimensions (biases, batch norm) are not perturbed filter-wise.
Source: Haruki et al. (GNC), Eq. 5-6; the filter as in Li et al. (2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ..contracts import Point, RateKind
from ..layout import Layout, totals

__all__ = [
    "Scaling",
    "check_options",
    "check_seed",
    "check_width",
    "factors",
    "filter_norms",
    "size",
]

Scaling = Literal["filter", "plain"]


def filter_norms(
    weights: Sequence[Tensor], layouts: Sequence[Layout] | None = None
) -> list[Tensor | None]:
    """‖w^(p)‖ per filter, shaped (filters, 1, ..., 1); None for weights without filters.

    Of pieces of weights, the norms of the whole filters.

    Example:
        >>> filter_norms([torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2)])
        [tensor([[5.],
                [0.]]), None]
    """
    found = [size(w) if w.ndim >= 2 else None for w in weights]
    for place, norm in _of_cut(found, layouts):
        found[place] = norm
    return found


def _of_cut(
    norms: Sequence[Tensor | None], layouts: Sequence[Layout] | None
) -> Iterator[tuple[int, Tensor]]:
    """Place and whole norms of the filters that lie on several processes."""
    cut = [(j, norm) for j, norm in enumerate(norms) if layouts and layouts[j].cuts_filters]
    known = [(j, norm, layouts[j]) for j, norm in cut if norm is not None and layouts]
    if known:
        squares = totals([each for _, _, each in known], [norm.square() for _, norm, _ in known])
        for (j, _, _), whole in zip(known, squares, strict=True):
            yield j, whole.sqrt()


def size(filters: Tensor) -> Tensor:
    """Euclidean norm of each slice of dimension 0, that dimension kept."""
    dims = tuple(range(1, filters.ndim))
    norms: Tensor = torch.linalg.vector_norm(filters, dim=dims, keepdim=True)
    return norms


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
