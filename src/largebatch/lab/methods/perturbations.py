"""Our perturbations, a line each."""

from __future__ import annotations

from functools import partial
from typing import Literal

import largebatch as lb

from ..config import RunConfig
from .kinds import Part, Perturb, RunFacts

__all__ = ["PERTURBATIONS"]

GNC_REACH, RNC_REACH = 0.04, 0.15
"""Centres of alpha times the rate: what an offset goes with."""
SWITCH = 0.75
"""Share of the run's epochs after which ``gnc-rnc`` takes random noise: its source's 120 of 160."""
EIGENPAIRS = 3
PRODUCT = 2.1
"""Time of a Hessian product over a gradient's: a refresh of ``cblr`` by differences in
benchmarks/results/curvature_cost.json, which is one product."""


def _switch(alpha: float, run: RunFacts) -> lb.Switch:
    # RNC has an alpha of its own in the source; one tuned parameter has to do for both here.
    then = lb.RNC(alpha * RNC_REACH / GNC_REACH, seed=run.seed)
    return lb.Switch(lb.GNC(alpha), then, at_step=run.step_at(SWITCH))


def _extrapolation(
    kind: Literal["fresh", "past", "noise"], inner_lr: float, run: RunFacts
) -> lb.Perturbation:
    return lb.Extrapolation(inner_lr, kind, seed=run.seed)


_along_noise = partial(Part[lb.Perturbation], per_rate=True)
_along_gradient = partial(Part[lb.Perturbation], parameter="inner_lr")

_FOUND: tuple[Perturb, ...] = (
    _along_noise(
        "gnc",
        "gradient noise convolution, by filter",
        "Haruki et al. 2019, Eq. 6",
        lambda alpha, run: lb.GNC(alpha),
        GNC_REACH,
    ),
    _along_noise(
        "rnc",
        "random noise convolution, by filter",
        "Haruki et al. 2019, Eq. 5",
        lambda alpha, run: lb.RNC(alpha, seed=run.seed),
        RNC_REACH,
    ),
    _along_noise(
        "gnc-rnc",
        "GNC for three quarters of the run, then RNC, its alpha in proportion",
        "Haruki et al. 2019, Sec. 4",
        _switch,
        GNC_REACH,
    ),
    _along_noise(
        "matched",
        "GNC's offsets, coordinates permuted within each filter",
        "ablation of GNC's direction",
        lambda alpha, run: lb.MatchedNoise(alpha, "permuted", seed=run.seed),
        GNC_REACH,
    ),
    _along_noise(
        "matched-iso",
        "Gaussian offsets of the size of GNC's in each filter",
        "ablation of GNC's direction",
        lambda alpha, run: lb.MatchedNoise(alpha, "isotropic", seed=run.seed),
        GNC_REACH,
    ),
    Part(
        "eigen",
        f"noise along the Hessian's top {EIGENPAIRS} eigenvectors, anew every refresh_every steps",
        "ablation of GNC's direction",
        lambda rho, run: lb.EigenNoise(rho, EIGENPAIRS, seed=run.seed, method="differences"),
        0.05,
        parameter="rho",
        extra=(2 * EIGENPAIRS + 10) * PRODUCT / RunConfig.refresh_every,
    ),
    _along_gradient(
        "extrap",
        "EXTRAP-SGD: the gradient after an inner step on the next worker's examples",
        "Lin et al. 2020",
        partial(_extrapolation, "fresh"),
        0.1,
        extra=1.0,
    ),
    _along_gradient(
        "extrap-past",
        "the gradient after an inner step along the worker's last one",
        "Lin et al. 2020",
        partial(_extrapolation, "past"),
        0.1,
    ),
    _along_gradient(
        "extrap-noise",
        "the gradient at a normal random distance in each coordinate",
        "Lin et al. 2020",
        partial(_extrapolation, "noise"),
        0.01,
    ),
    Part(
        "sam",
        "sharpness-aware minimization, along the batch's gradient",
        "Foret et al. 2021",
        lambda rho, run: lb.SAM(rho),
        0.05,
        parameter="rho",
        extra=1.0,
        by_worker=False,
    ),
    Part(
        "m-sam",
        "sharpness-aware minimization, along each worker's own gradient",
        "Foret et al. 2021, Sec. 4.1",
        lambda rho, run: lb.SAM(rho, per_worker=True),
        0.05,
        parameter="rho",
        extra=1.0,
    ),
)

PERTURBATIONS = {part.name: part for part in _FOUND}
