"""Our update rules, a line each, and all rules by name."""

from __future__ import annotations

import torch

import largebatch as lb

from ..config import RunConfig
from .kinds import Rule
from .rivals import RIVALS

__all__ = ["RULES"]

REFRESH = 5.0
"""Time of a refresh of CBLR's diagonal over a gradient's: 4.9 for ResNet-20 on a CPU, as
benchmarks/curvature_cost.py measures it."""

OURS = (
    Rule(
        "msgd",
        "momentum SGD, torch.optim.SGD",
        "Polyak 1964",
        "one rate for all",
        torch.optim.SGD,
        0.28,
        step=2.0,
    ),
    Rule(
        "sngm",
        "momentum on the gradient over its norm",
        "Zhao et al. 2024, Eq. 7-8",
        "normalized",
        lb.SNGM,
        1.0,
        step=2.0,
    ),
    Rule(
        "sngm-block",
        "SNGM with one norm a parameter",
        "Zhao et al. 2024, Eq. 13-14",
        "normalized",
        lambda params, **ours: lb.SNGM(params, blockwise=True, **ours),
        0.3,
        step=2.0,
    ),
    Rule(
        "lars",
        "norm of weights over norm of gradient",
        "You et al. 2017",
        "a rate for each layer",
        lambda params, **ours: lb.LARS(params, exclude=None, **ours),
        30.0,
        step=2.0,
    ),
    Rule(
        "lars-buffer",
        "LARS's ratio on the momentum buffer",
        "Zhao et al. 2024, code",
        "a rate for each layer",
        lambda params, **ours: lb.LARS(
            params, form="buffer", exclude=None, cap=50.0, clamp=10.0, **ours
        ),
        30.0,
        step=2.0,
    ),
    Rule(
        "lars2020",
        "norm of weights times normalized momentum",
        "You et al. 2020",
        "a rate for each layer",
        lambda params, **ours: lb.LARS2020(params, exclude=None, **ours),
        0.1,
        step=2.0,
    ),
    Rule(
        "clars",
        "LARS by the mean norm of the workers' gradients",
        "Huo et al. 2021",
        "a rate for each layer",
        lambda params, **ours: lb.CLARS(params, exclude=None, **ours),
        30.0,
        step=2.0,
        by_worker=True,
    ),
    Rule(
        "clars-batches",
        "CLARS by 8 separate small batches, every refresh_every steps",
        "Huo et al. 2021",
        "a rate for each layer",
        lambda params, **ours: lb.CLARS(params, norms="batches", exclude=None, **ours),
        30.0,
        step=2.0,
        extra=1.0 / RunConfig.refresh_every,
    ),
    Rule(
        "percentdelta",
        "harmonic mean of |w/g|",
        "Abu-El-Haija 2017",
        "a rate for each layer",
        lb.PercentDelta,
        0.03,
    ),
    Rule(
        "mclr",
        "median of weights over median of gradient",
        "Gao and Zhong 2020",
        "a rate for each layer",
        lb.MCLR,
        3e-3,
    ),
    Rule(
        "lamb",
        "Adam's step to a share of the weights' norm",
        "You et al. 2020",
        "a rate for each layer",
        lambda params, lr, momentum, weight_decay: lb.LAMB(
            params, lr=lr, weight_decay=weight_decay
        ),
        1e-2,
    ),
    Rule(
        "cblr",
        "curvature radius, taken as |w/g|",
        "Gao and Zhong 2020, Eq. 17",
        "a rate for each element",
        lb.CBLR,
        0.01,
    ),
    Rule(
        "cblr-hessian",
        "curvature radius by Hessian products, one every refresh_every steps",
        "Gao and Zhong 2020, Eq. 9-11",
        "a rate for each element",
        lambda params, **ours: lb.CBLR(params, diagonal="hessian", **ours),
        3e-3,
        extra=REFRESH / RunConfig.refresh_every,
    ),
)

RULES = {rule.name: rule for rule in (*OURS, *RIVALS)}
