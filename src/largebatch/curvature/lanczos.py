r"""The Hessian's eigenpairs at the ends of its spectrum, from products with vectors alone.

    H Q = Q T + remainder,   T = Q' H Q tridiagonal,   T y = theta y   gives   H (Q y) ~ theta (Q y)

H: the Hessian over all parameters; Q: orthonormal columns, as many as iterations, of all
parameters as one vector. The extreme theta converge first. Each new column is orthogonalized
against all before it, twice, so that rounding leaves no ghosts: memory is 2 x iterations x
parameters, for Q and HQ.
Source: Lanczos (1950); full reorthogonalization as in Golub and Van Loan, "Matrix computations".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..seeding import generator
from .passes import LossFn, full_precision
from .products import Method, Product, hessian_products
from .space import Space

__all__ = ["Eigenpairs", "eigenpairs_of", "top_eigenpairs"]

# Keeps the first column apart from other draws that are named by as many integers.
_START = 0x4C41


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues by falling magnitude, and their vectors.

    Attributes:
        values: the k eigenvalues, with their signs.
        vectors: for each parameter a tensor of its shape with k in front (of a sharded one, of
            its local piece's shape); each of the k vectors has length 1 over all parameters.
        residuals: ||H v - theta v|| of each, in the units of the eigenvalues: how far they have
            converged.
    """

    values: Tensor
    vectors: list[Tensor]
    residuals: Tensor


def top_eigenpairs(
    fn: LossFn,
    parameters: Sequence[Tensor],
    k: int,
    *,
    iterations: int | None = None,
    seed: int = 0,
    step: int = 0,
    method: Method = "exact",
    process_group: torch.distributed.ProcessGroup | None = None,
) -> Eigenpairs:
    """Return the k eigenpairs of largest magnitude that Lanczos finds.

    An eigenvalue that several vectors share may be found with one of them only, unless iterations
    reach the number of different eigenvalues: :func:`eigenpairs_of` has means against that.

    Args:
        fn: evaluates the model and returns the loss, one number in a tensor.
        parameters: what the Hessian is taken over, on one device; all sharded over one mesh
            (then with method="differences"), or none.
        k: how many.
        iterations: Hessian products to spend, and vectors to hold; None for 2*k + 10.
        seed: with `step` names the random first vector.
        step: another number for each estimate.
        method: how products are made: see :func:`hessian_products`.
        process_group: processes whose products are averaged: all find the same pairs.

    Raises:
        ValueError: k below 1, or more than iterations or elements of the parameters; products
            that are not finite; parameters of which some are sharded otherwise than others.

    Example:
        >>> w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> scale = torch.tensor([1.0, -5.0, 3.0])
        >>> found = top_eigenpairs(lambda: (scale * w.square()).sum() / 2, [w], 2)
        >>> [round(float(value), 4) for value in found.values]
        [-5.0, 3.0]
    """
    steps = _steps(parameters, k, iterations, 1)
    with full_precision(fn, parameters[0].device) as fn:
        product = hessian_products(fn, parameters, method=method, process_group=process_group)
        return eigenpairs_of(product, parameters, k, iterations=steps, seed=seed, step=step)


def eigenpairs_of(
    product: Product,
    parameters: Sequence[Tensor],
    k: int,
    *,
    iterations: int | None = None,
    block: int = 1,
    tolerance: float | None = None,
    seed: int = 0,
    step: int = 0,
) -> Eigenpairs:
    """As :func:`top_eigenpairs`, of any symmetric matrix that ``product`` multiplies with.

    Args:
        product: from vectors, a tensor of each parameter's shape, to the matrix times them.
        parameters: shapes, dtypes and placements of those.
        k: how many.
        iterations: products to spend at most; None for 2*k + 10.
        block: random first vectors: an eigenvalue is found as often as it occurs, up to so many
            times, and a cluster of so many converges as one would; iterations then reach less
            far, by that factor.
        tolerance: end as soon as all k residuals are at most so much of the largest eigenvalue;
            None spends all iterations.
        seed: with `step` names the random first vectors.
        step: another number for each estimate.

    Raises:
        ValueError: as :func:`top_eigenpairs`; a block below 1 or above iterations.

    Example:
        >>> w, scale = torch.zeros(4), torch.tensor([2.0, 7.0, 7.0, 1.0])
        >>> found = eigenpairs_of(lambda v: [scale * v[0]], [w], 2, iterations=4, block=2)
        >>> [round(float(value), 4) for value in found.values]
        [7.0, 7.0]
    """
    space = Space(parameters)
    steps = _steps(parameters, k, iterations, block)
    krylov = _Krylov(product, space, steps, block, generator("cpu", _START, seed, step))
    grown = krylov.grow(steps if tolerance is None else max(k, block))
    found = _largest(space, *grown, k)
    while tolerance is not None and len(grown[0]) < steps:
        if bool((found.residuals <= tolerance * found.values.abs().max()).all()):
            break
        before, grown = len(grown[0]), krylov.grow(max(_BETWEEN, block))
        if len(grown[0]) == before:
            break
        found = _largest(space, *grown, k)
    return found


# Products between two looks at the residuals, which cost k vectors each.
_BETWEEN = 4


def _steps(parameters: Sequence[Tensor], k: int, iterations: int | None, block: int) -> int:
    size = sum(p.numel() for p in parameters)
    steps = min(2 * k + 10 if iterations is None else iterations, size)
    if not 1 <= k <= steps:
        raise ValueError(f"needs 1 <= k <= iterations and parameters, got k={k} of {steps}")
    if not 1 <= block <= steps:
        raise ValueError(
            f"needs 1 <= block <= iterations and parameters, got block={block} of {steps}"
        )
    return steps


def _largest(space: Space, basis: Tensor, images: Tensor, k: int) -> Eigenpairs:
    # Of the projection itself, not of the recursion's coefficients: right also after a breakdown.
    small = space.total(basis @ images.T).to("cpu", torch.float64)
    if not small.isfinite().all():
        raise ValueError("the Hessian's products are not finite: take the loss where it is finite")
    values, mixtures = torch.linalg.eigh((small + small.T) / 2)
    chosen = values.abs().argsort(descending=True)[:k]
    values, mixtures = values[chosen].to(basis), mixtures[:, chosen].T.to(basis)
    vectors, moved = mixtures @ basis, mixtures @ images
    squares = (moved - values[:, None] * vectors).square().sum(dim=1)
    return Eigenpairs(values, space.cut(vectors), space.total(squares).sqrt())


class _Krylov:
    """Orthonormal rows that span a Krylov space, and their products with the matrix."""

    def __init__(
        self, product: Product, space: Space, most: int, block: int, source: torch.Generator
    ) -> None:
        self._product, self._space, self._block, self._source = product, space, block, source
        like = space.random(source)
        self._first: Tensor | None = like
        self._rows, self._images = (like.new_empty(most, len(like)) for _ in range(2))
        self._length = 0
        self._full = False

    def grow(self, more: int) -> tuple[Tensor, Tensor]:
        """Rows and images, after ``more`` products where there is room for them."""
        for place in range(self._length, min(self._length + more, len(self._rows))):
            vector = None if self._full else self._next(place)
            if vector is None:  # too small a part of it is new to tell from rounding
                self._full = True
                break
            self._rows[place] = vector
            self._images[place] = self._space.flat(self._product(self._space.uncut(vector)))
            self._length = place + 1
        return self._rows[: self._length], self._images[: self._length]

    def _next(self, place: int) -> Tensor | None:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        known, space = self._rows[:place], self._space
        if place >= self._block:
            found = _orthogonal(space, self._images[place - self._block], known)
            if found is not None:
                return found
        # Of the first block; or its space is exhausted: go on in a direction not yet seen.
        return _orthogonal(space, space.random(self._source), known)


def _orthogonal(space: Space, vector: Tensor, rows: Tensor) -> Tensor | None:
    """The part of a vector that is orthogonal to the rows, at length 1; None where none is left."""
    before = space.length(vector)
    for _ in range(2):
        vector = vector - rows.T @ space.total(rows @ vector)
    length = space.length(vector)
    eps = torch.finfo(vector.dtype).eps
    return None if length <= 100 * eps * before else vector / length
