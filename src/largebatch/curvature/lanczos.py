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
from .passes import LossFn
from .products import Method, Product, hessian_products

__all__ = ["Eigenpairs", "top_eigenpairs"]

# Keeps the first column apart from other draws that are named by as many integers.
_START = 0x4C41


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues by falling magnitude, and their vectors.

    Attributes:
        values: the k eigenvalues, with their signs.
        vectors: for each parameter a tensor of its shape with k in front; each of the k
            vectors has length 1 over all parameters.
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
        parameters: what the Hessian is taken over, on one device.
        k: how many.
        iterations: Hessian products to spend, and vectors to hold; None for 2*k + 10.
        seed: with `step` names the random first vector.
        step: another number for each estimate.
        method: how products are made: see :func:`hessian_products`.
        process_group: processes whose products are averaged: all find the same pairs.

    Raises:
        ValueError: k below 1, or more than iterations or elements of the parameters; products
            that are not finite.

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
    product = hessian_products(fn, parameters, method=method, process_group=process_group)
    basis, images = _basis(product, parameters, steps, generator("cpu", _START, seed, step))
    # Of the projection itself, not of the recursion's coefficients: right also after a breakdown.
    small = (basis @ images.T).to("cpu", torch.float64)
    if not small.isfinite().all():
        raise ValueError("the Hessian's products are not finite: take the loss where it is finite")
    values, mixtures = torch.linalg.eigh((small + small.T) / 2)
    chosen = values.abs().argsort(descending=True)[:k]
    values, mixtures = values[chosen].to(basis), mixtures[:, chosen].T.to(basis)
    vectors, moved = mixtures @ basis, mixtures @ images
    residuals = (moved - values[:, None] * vectors).norm(dim=1)
    return Eigenpairs(values, _cut(vectors, parameters), residuals)


def _basis(
    product: Product, parameters: Sequence[Tensor], steps: int, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Orthonormal rows that span the Krylov space, and their products with H."""
    vector = _random(parameters, source)
    rows, images = (vector.new_empty(steps, len(vector)) for _ in range(2))
    for place in range(steps):
        if place:
            found = _orthogonal(images[place - 1], rows[:place])
            if found is None:  # the space is exhausted: go on in a direction not yet seen
                found = _orthogonal(_random(parameters, source), rows[:place])
            if found is None:  # too small a part of it is new to tell from rounding
                return rows[:place], images[:place]
            vector = found
        rows[place] = vector
        images[place] = _flat(product(_uncut(vector, parameters)))
    return rows, images


def _orthogonal(vector: Tensor, rows: Tensor) -> Tensor | None:
    """The part of a vector that is orthogonal to the rows, at length 1; None where none is left."""
    before = vector.norm()
    for _ in range(2):
        vector = vector - rows.T @ (rows @ vector)
    length = vector.norm()
    eps = torch.finfo(vector.dtype).eps
    return None if length <= 100 * eps * before else vector / length


def _random(parameters: Sequence[Tensor], source: torch.Generator) -> Tensor:
    size = sum(p.numel() for p in parameters)
    first = parameters[0]
    wide = torch.float64 if any(p.dtype == torch.float64 for p in parameters) else torch.float32
    drawn = torch.randn(size, generator=source, dtype=torch.float64).to(first.device, wide)
    unit: Tensor = drawn / drawn.norm()
    return unit


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return torch.cat([t.detach().reshape(-1).to(wide) for t in tensors])


def _uncut(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    pieces = torch.split(vector, [p.numel() for p in parameters])
    return [piece.view(p.shape).to(p.dtype) for piece, p in zip(pieces, parameters, strict=True)]


def _cut(vectors: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    pieces = torch.split(vectors, [p.numel() for p in parameters], dim=1)
    return [
        piece.reshape(len(vectors), *p.shape) for piece, p in zip(pieces, parameters, strict=True)
    ]
