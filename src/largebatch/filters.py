"""Filters: the slices of dimension 0 of a weight with two or more dimensions, and their lengths.

    ‖w^(p)‖ = square root of the sum over slice p of w^2

Weights with fewer dimensions (biases, batch norm) have none.
Source: Li et al. (2018), "Visualizing the loss landscape of neural nets", Section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .layout import Layout, totals

__all__ = ["filter_norms", "size"]


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
