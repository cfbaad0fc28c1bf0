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

from ..layout import Layout, layouts_of
from ..mesh import Sharding, local, placed
from ..seeding import generator
from .passes import LossFn, full_precision
from .products import Method, Product, hessian_products

__all__ = ["Eigenpairs", "top_eigenpairs"]

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
    reach the number of different eigenvalues.

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
    size = sum(p.numel() for p in parameters)
    steps = min(2 * k + 10 if iterations is None else iterations, size)
    if not 1 <= k <= steps:
        raise ValueError(f"needs 1 <= k <= iterations and parameters, got k={k} of {steps}")
    with full_precision(fn, parameters[0].device) as fn:
        product = hessian_products(fn, parameters, method=method, process_group=process_group)
        space = _Space(parameters)
        basis, images = _basis(product, space, steps, generator("cpu", _START, seed, step))
        return _largest(space, basis, images, k)


def _largest(space: _Space, basis: Tensor, images: Tensor, k: int) -> Eigenpairs:
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


def _basis(
    product: Product, space: _Space, steps: int, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Orthonormal rows that span the Krylov space, and their products with H."""
    vector = space.random(source)
    rows, images = (vector.new_empty(steps, len(vector)) for _ in range(2))
    for place in range(steps):
        if place:
            found = _orthogonal(space, images[place - 1], rows[:place])
            if found is None:  # the space is exhausted: go on in a direction not yet seen
                found = _orthogonal(space, space.random(source), rows[:place])
            if found is None:  # too small a part of it is new to tell from rounding
                return rows[:place], images[:place]
            vector = found
        rows[place] = vector
        images[place] = space.flat(product(space.uncut(vector)))
    return rows, images


def _orthogonal(space: _Space, vector: Tensor, rows: Tensor) -> Tensor | None:
    """The part of a vector that is orthogonal to the rows, at length 1; None where none is left."""
    before = space.length(vector)
    for _ in range(2):
        vector = vector - rows.T @ space.total(rows @ vector)
    length = space.length(vector)
    eps = torch.finfo(vector.dtype).eps
    return None if length <= 100 * eps * before else vector / length


class _Space:
    """Vectors over all parameters, as one flat tensor each: of sharded ones, of the local pieces.

    Attributes:
        sharding: how the parameters are cut; None where they are not.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._layouts = layouts_of(parameters)
        self._shapes = [local(p).shape for p in parameters]
        doubles = any(p.dtype == torch.float64 for p in parameters)
        self._wide = torch.float64 if doubles else torch.float32
        self.sharding = _one_sharding(self._layouts)

    def total(self, sums: Tensor) -> Tensor:
        """Sums over the parameters, from those over the local pieces."""
        return sums if self.sharding is None else self.sharding.total(sums)

    def length(self, vector: Tensor) -> Tensor:
        if self.sharding is not None:
            return self.total(vector.square().sum()).sqrt()
        length: Tensor = vector.norm()
        return length

    def random(self, source: torch.Generator) -> Tensor:
        """Of length 1; drawn for whole parameters."""
        sizes = [layout.shape.numel() for layout in self._layouts]
        drawn = torch.randn(sum(sizes), generator=source, dtype=torch.float64)
        pieces = zip(torch.split(drawn / drawn.norm(), sizes), self._layouts, strict=True)
        mine = [layout.cut(piece.view(layout.shape)).reshape(-1) for piece, layout in pieces]
        return torch.cat(mine).to(self._parameters[0].device, self._wide)

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([local(t.detach()).reshape(-1).to(self._wide) for t in tensors])

    def uncut(self, vector: Tensor) -> list[Tensor]:
        pieces = torch.split(vector, [shape.numel() for shape in self._shapes])
        each = zip(pieces, self._shapes, self._parameters, strict=True)
        return [placed(piece.view(shape).to(p.dtype), p) for piece, shape, p in each]

    def cut(self, vectors: Tensor) -> list[Tensor]:
        pieces = torch.split(vectors, [shape.numel() for shape in self._shapes], dim=1)
        each = zip(pieces, self._shapes, strict=True)
        return [piece.reshape(len(vectors), *shape) for piece, shape in each]


def _one_sharding(layouts: Sequence[Layout]) -> Sharding | None:
    """Any of the parameters', which must all be cut over the same processes."""
    cut = [layout.sharding for layout in layouts if layout.sharding is not None]
    kinds = {(each.mesh, _cuts(each)) for each in cut}
    if cut and (len(cut) < len(layouts) or len(kinds) > 1):
        raise ValueError(
            "eigenvectors need parameters that are all cut over the same processes, or none: "
            "apply fully_shard to the whole model over one mesh"
        )
    return cut[0] if cut else None


def _cuts(where: Sharding) -> tuple[bool, ...]:
    return tuple(placement.is_shard() for placement in where.placements)
