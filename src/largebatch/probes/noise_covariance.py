r"""How far from isotropic the workers' gradient noise is, layer by layer.

    Sigma = (1/M) Omega Omega',   condition = lambda_max(Sigma) / lambda_min*(Sigma)

Omega: l x M, one column a worker, the noise less its mean over workers; M workers; l elements of
the layer; lambda_min* the second smallest eigenvalue of the M x M matrix (1/M) Omega' Omega, which
has Sigma's eigenvalues: centring makes its smallest zero. A layer with fewer elements than workers
has l eigenvalues, of which the smallest is taken: in both cases the last of rank = min(M - 1, l).
Source: Haruki et al. (GNC), Section 3.2 and Fig. 4(a).

Isotropic noise has condition 1 only where l is infinite. For it M*Sigma has the eigenvalues of a
Wishart matrix W_rank(max(M - 1, l)), drawn here as L L' with chi on the diagonal of L and normals
below it (Bartlett, 1933): a large layer costs no more than a small one.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..mesh import sharding
from ..seeding import generator, key
from .centred import centred

__all__ = ["NoiseCovariance", "gram", "isotropic_condition", "noise_covariance"]

# Keeps these draws apart from others that are named by as many integers.
_WISHART = 0x5749
# Below this share of the largest, an eigenvalue in float64 is rounding.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class NoiseCovariance:
    """What the noise's covariance is like in each layer.

    Attributes:
        layers: names of the layers.
        workers: M.
        sizes: elements of each layer.
        ranks: how many eigenvalues are not zero by necessity, min(M - 1, elements).
        condition: largest eigenvalue over the last of those; infinite where that one is zero (a
            bias before softmax has as few directions less one: its gradient adds up to 0), NaN
            where there is no noise, or noise that is not finite.
        isotropic_condition: what isotropic Gaussian noise of the same M and size has: the median.
        percentiles: percents.
        eigenvalues: of each layer, at those percentiles of the ``ranks`` largest; in the units of
            a squared gradient.
    """

    layers: list[str]
    workers: int
    sizes: list[int]
    ranks: list[int]
    condition: list[float]
    isotropic_condition: list[float]
    percentiles: list[float]
    eigenvalues: list[list[float]]


def noise_covariance(
    layers: Sequence[str],
    rows: Iterable[Tensor],
    *,
    percentiles: Sequence[float] = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 100.0),
    draws: int = 50,
    seed: int = 0,
) -> NoiseCovariance:
    """The eigenvalues of each layer's noise over the workers of one step.

    Costs no gradient: M inner products for each worker, and M^3 for each layer.

    Args:
        layers: their names.
        rows: of each layer the M workers' gradients, noise or offsets, shape (M, the layer's):
            :meth:`WorkerGradients.rows`, or ``torch.stack`` of any vectors.
        percentiles: which of the eigenvalues to give.
        draws: Wishart matrices of which ``isotropic_condition`` is the median.
        seed: of those.

    Raises:
        ValueError: fewer than two workers, layers of different numbers of workers, percents
            outside [0, 100], no draws.

    Example:
        >>> noise = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> noise_covariance(["weight"], [noise]).condition
        [9.0]
    """
    if not percentiles or not all(0 <= each <= 100 for each in percentiles):
        raise ValueError(f"percentiles must be percents from 0 to 100, got {list(percentiles)}")
    found = [(gram(each), math.prod(each.shape[1:])) for each in rows]
    workers = len(found[0][0]) if found else 0
    if len(layers) != len(found) or any(len(product) != workers for product, _ in found):
        raise ValueError(
            f"every one of the {len(layers)} layers needs the gradients of all workers, got "
            f"{[len(product) for product, _ in found]} rows"
        )
    sizes = [size for _, size in found]
    ranks = [min(workers - 1, size) for size in sizes]
    values = [
        _eigenvalues(product / workers, r) for (product, _), r in zip(found, ranks, strict=True)
    ]
    at = torch.tensor(list(percentiles), dtype=torch.float64) / 100
    return NoiseCovariance(
        layers=list(layers),
        workers=workers,
        sizes=sizes,
        ranks=ranks,
        condition=[float(v[-1] / v[0]) for v in values],
        isotropic_condition=[isotropic_condition(workers, n, draws, seed) for n in sizes],
        percentiles=list(percentiles),
        eigenvalues=[torch.quantile(v, at).tolist() for v in values],
    )


@torch.no_grad()
def gram(rows: Tensor) -> Tensor:
    """Inner products of the rows less their mean, (M, M) in float64 on the CPU."""
    if len(rows) < 2:
        raise ValueError(
            f"noise needs at least two workers to be told from their mean, got {len(rows)}"
        )
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for _, piece in centred(rows):
        total += piece @ piece.T
    where = sharding(rows)
    return (total if where is None else where.total(total)).cpu()


def _eigenvalues(matrix: Tensor, rank: int) -> Tensor:
    """The ``rank`` largest, rising; NaN where the matrix is not finite."""
    if not matrix.isfinite().all():
        return torch.full((rank,), math.nan, dtype=torch.float64)
    values = torch.linalg.eigvalsh(matrix)[-rank:]
    return torch.where(values > _ROUNDING * values[-1], values, 0.0)


@lru_cache(maxsize=1024)
def isotropic_condition(workers: int, size: int, draws: int = 50, seed: int = 0) -> float:
    """The condition number of isotropic Gaussian noise: the median over ``draws`` matrices.

    The median, since there is no mean where a layer is about as large as there are workers.

    Args:
        workers: M, at least 2.
        size: elements of the layer, any number.
        draws: how many matrices.
        seed: of them.

    Example:
        >>> round(isotropic_condition(16, 10**9), 3), isotropic_condition(16, 100) > 3
        (1.0, True)
    """
    if workers < 2 or size < 1 or draws < 1:
        raise ValueError(
            "isotropic noise needs at least two workers, one element and one draw, got "
            f"workers={workers}, size={size}, draws={draws}"
        )
    rank, freedom = min(workers - 1, size), max(workers - 1, size)
    source = random.Random(key(_WISHART, seed, workers, size))
    normals = generator("cpu", _WISHART, seed, workers, size)
    found = []
    for _ in range(draws):
        lower = torch.randn(rank, rank, generator=normals, dtype=torch.float64).tril(-1)
        squares = [2 * source.gammavariate((freedom - i) / 2, 1) for i in range(rank)]
        lower += torch.tensor(squares, dtype=torch.float64).sqrt().diag()
        singular = torch.linalg.svdvals(lower)
        found.append(float((singular[0] / singular[-1]) ** 2))
    return statistics.median(found)
