"""Torch's own rivals, compulsory in a comparison: tuned, they are known to match LARS and LAMB.

Momentum and weight decay are the run's in all that have them: AdamW and NAdam have no momentum
and keep their betas; their weight decay and Muon's is decoupled from the gradient.
Source of the claim: Nado et al. 2021.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import InputError
from .kinds import Rule

__all__ = ["RIVALS"]


def _muon(
    params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
) -> tuple[Optimizer, ...]:
    """Muon on what has two dimensions, AdamW on the rest; one rate serves both."""
    held = list(params)
    matrices = [p for p in held if p.ndim == 2]
    rest = [p for p in held if p.ndim != 2]
    if not matrices:
        raise InputError("muon steps matrices, and this network has none: choose adamw")
    muon = torch.optim.Muon(
        matrices,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    if not rest:
        return (muon,)
    return muon, torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay)


RIVALS = (
    Rule(
        "nesterov",
        "Nesterov's momentum, torch.optim.SGD",
        "Sutskever et al. 2013",
        "one rate for all",
        lambda params, **ours: torch.optim.SGD(params, nesterov=True, **ours),
        0.28,
        step=2.0,
    ),
    Rule(
        "adamw",
        "Adam, decoupled weight decay, torch.optim.AdamW",
        "Loshchilov, Hutter 2019",
        "adaptive",
        lambda params, lr, momentum, weight_decay: torch.optim.AdamW(
            params, lr=lr, weight_decay=weight_decay
        ),
        1e-3,
    ),
    Rule(
        "nadam",
        "Adam with Nesterov's momentum, torch.optim.NAdam",
        "Dozat 2016",
        "adaptive",
        lambda params, lr, momentum, weight_decay: torch.optim.NAdam(
            params, lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True
        ),
        2e-3,
    ),
    Rule(
        "muon",
        "torch.optim.Muon on matrices (2-D weights: linear layers, the last one too, and "
        "embeddings), AdamW on the rest: convolutions, which Muon refuses, and 1-D",
        "Jordan et al. 2024",
        "adaptive",
        _muon,
        1e-3,
    ),
)
