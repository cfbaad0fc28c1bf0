"""Our perturbations, a line each."""

from __future__ import annotations

import largebatch as lb

from .kinds import Perturb

__all__ = ["PERTURBATIONS"]

PERTURBATIONS = {
    p.name: p
    for p in (
        Perturb(
            "gnc",
            "gradient noise convolution, by filter",
            "Haruki et al. 2019, Eq. 6",
            lambda alpha, seed: lb.GNC(alpha),
            0.04,
        ),
        Perturb(
            "rnc",
            "random noise convolution, by filter",
            "Haruki et al. 2019, Eq. 5",
            lambda alpha, seed: lb.RNC(alpha, seed=seed),
            0.15,
        ),
    )
}
