r"""Whether noise points where the loss bends: its share along the Hessian's top eigenvectors.

    share_j = v_j' Sigma v_j / tr Sigma,   estimated by  A_j / B
    A_j = sum_i (v_j . (omega_i - omega))^2,   B = sum_i ||omega_i - omega||^2

omega_i: worker i's gradient or noise, omega their mean, Sigma their covariance; v_j: eigenvectors
of the Hessian, of length 1; d elements over all layers. A ratio of unbiased estimates is biased by
about share*(share - sum share^2)*2/(M - 1): the jackknife over workers (Quenouille, 1956) takes
that off, in closed form since leaving worker i out lowers A and B by M/(M - 1) times its own terms.

Isotropic noise has share 1/d. For it A/B is distributed as Beta((M - 1)/2, (M - 1)(d - 1)/2): that
is the interval. Source of the question: the discussion of GNC in REV; shares as in Zhu et al.
(2018), "The anisotropic noise in stochastic gradient descent".
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..curvature import Eigenpairs
from ..mesh import local, sharding
from ..seeding import key
from .centred import centred

__all__ = ["Alignment", "alignment"]

# Keeps these draws apart from others that are named by as many integers.
_BETA = 0x414C


@dataclass(frozen=True)
class Alignment:
    """Shares of the noise's variance; NaN where there is no noise.

    Attributes:
        eigenvalues: the Hessian's, by falling magnitude.
        residuals: how far each pair has converged; as of :class:`largebatch.curvature.Eigenpairs`.
        noise_share: along each eigenvector; without the bias of M, so that it may be below 0.
        noise_share_error: its standard error, by the jackknife over workers.
        isotropic_share: of isotropic noise, 1/d.
        isotropic_low: below it 2.5% of what isotropic noise of M workers would show.
        isotropic_high: above it 2.5%.
        ratio: noise_share / isotropic_share.
        top_share: along all of them together.
        top_share_error: its standard error.
        top_isotropic_share: k/d.
        top_isotropic_low: as isotropic_low.
        top_isotropic_high: as isotropic_high.
        workers: M.
        size: d.
    """

    eigenvalues: list[float]
    residuals: list[float]
    noise_share: list[float]
    noise_share_error: list[float]
    isotropic_share: float
    isotropic_low: float
    isotropic_high: float
    ratio: list[float]
    top_share: float
    top_share_error: float
    top_isotropic_share: float
    top_isotropic_low: float
    top_isotropic_high: float
    workers: int
    size: int


@torch.no_grad()
def alignment(
    rows: Iterable[Tensor], pairs: Eigenpairs, *, draws: int = 10000, seed: int = 0
) -> Alignment:
    """Compare M workers' vectors with eigenpairs of the Hessian at the same weights.

    Costs no gradient but those of the pairs: see :func:`~largebatch.probes.eigenpairs`.

    Args:
        rows: of each layer the M workers' gradients, noise or offsets, shape (M, the layer's), in
            the order of the eigenvectors' parameters: :meth:`WorkerGradients.rows`, or
            ``torch.stack`` of any vectors. Only differences between workers count.
        pairs: from :func:`largebatch.curvature.top_eigenpairs`.
        draws: from the Beta distribution, whose percentiles are the interval.
        seed: of those.

    Raises:
        ValueError: fewer than three workers (the jackknife needs two without the third), or
            layers other than the eigenvectors'.

    Example:
        >>> from largebatch.curvature import top_eigenpairs
        >>> w = torch.zeros(2, requires_grad=True)
        >>> scale = torch.tensor([9.0, 1.0])
        >>> pairs = top_eigenpairs(lambda: (scale * w.square()).sum() / 2, [w], 1)
        >>> noise = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> found = alignment([noise], pairs)
        >>> found.top_share > 0.9, found.isotropic_share
        (True, 0.5)
    """
    along, squares, size = _measured(rows, pairs)
    workers, k = along.shape
    together = torch.cat([along.square(), along.square().sum(1, keepdim=True)], dim=1)
    shares, errors = _jackknifed(together, squares)
    low, high = _interval(workers, 1, size, draws, seed)
    top_low, top_high = _interval(workers, k, size, draws, seed)
    return Alignment(
        eigenvalues=pairs.values.tolist(),
        residuals=pairs.residuals.tolist(),
        noise_share=shares[:k].tolist(),
        noise_share_error=errors[:k].tolist(),
        isotropic_share=1 / size,
        isotropic_low=low,
        isotropic_high=high,
        ratio=(shares[:k] * size).tolist(),
        top_share=float(shares[k]),
        top_share_error=float(errors[k]),
        top_isotropic_share=k / size,
        top_isotropic_low=top_low,
        top_isotropic_high=top_high,
        workers=workers,
        size=size,
    )


def _measured(rows: Iterable[Tensor], pairs: Eigenpairs) -> tuple[Tensor, Tensor, int]:
    """v_j . (omega_i - omega), (M, k); ||omega_i - omega||^2, (M,), both float64; and d."""
    along = squares = torch.zeros((), dtype=torch.float64)
    size = layers = 0
    for each in rows:
        layers += 1
        vectors = pairs.vectors[layers - 1] if layers <= len(pairs.vectors) else None
        mine = local(each)
        if vectors is None or mine.shape[1:] != vectors.shape[1:]:
            given = None if vectors is None else tuple(vectors.shape[1:])
            raise ValueError(
                f"layer {layers - 1} of the rows has shape {tuple(mine.shape[1:])}, the "
                f"eigenvectors' has {given}: take both over the same parameters"
            )
        if len(mine) < 3:
            raise ValueError(f"alignment needs at least three workers, got {len(mine)}")
        found = torch.zeros(len(mine), len(vectors) + 1, dtype=torch.float64, device=mine.device)
        for places, piece in centred(each):
            axes = vectors.unsqueeze(1).flatten(1)[:, places].to(piece)
            found[:, :-1] += piece @ axes.T
            found[:, -1] += piece.square().sum(1)
        where = sharding(each)
        found = (found if where is None else where.total(found)).cpu()
        along, squares = along + found[:, :-1], squares + found[:, -1]
        size += math.prod(each.shape[1:])
    if layers != len(pairs.vectors):
        raise ValueError(
            f"the rows have {layers} layers, the eigenvectors {len(pairs.vectors)}: take both over "
            "the same parameters"
        )
    return along, squares, size


def _jackknifed(parts: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Ratios of sums over workers, of (M, j) to (M,), without their first bias; and their errors.

    Both are squares of what was centred, so that a worker left out takes M/(M - 1) of its own.
    """
    workers = len(squares)
    gone = workers / (workers - 1)
    whole = parts.sum(0) / squares.sum()
    without = (parts.sum(0) - gone * parts) / (squares.sum() - gone * squares)[:, None]
    corrected = workers * whole - (workers - 1) * without.mean(0)
    spread = (without - without.mean(0)).square().sum(0)
    return corrected, (spread * (workers - 1) / workers).sqrt()


def _interval(workers: int, k: int, size: int, draws: int, seed: int) -> tuple[float, float]:
    """Between which 95% of isotropic noise's shares in k directions are."""
    if k >= size:
        return 1.0, 1.0
    source = random.Random(key(_BETA, seed, workers, k, size))
    inside, outside = (workers - 1) * k / 2, (workers - 1) * (size - k) / 2
    found = sorted(source.betavariate(inside, outside) for _ in range(draws))
    return found[round(0.025 * (draws - 1))], found[round(0.975 * (draws - 1))]
