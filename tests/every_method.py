"""Every perturbation, gradient noise and update rule, with arguments with which each shows.

The rows of docs/works-with.md: a perturbation with momentum SGD, a gradient noise beside GNC, and an
update rule with GNC. Where a test goes through them, its id ends with the row's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import largebatch as lb

Rule = Callable[[Any], torch.optim.Optimizer]

SGD: Rule = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
GNC = lb.GNC(alpha=1.0)


@dataclass(frozen=True)
class Row:
    """What is trained with."""

    perturb: lb.Perturbation | None
    rule: Rule = SGD
    noise: lb.contracts.GradientNoise | None = None

    def without(self) -> Row:
        """The same rule without that which the row is about."""
        return Row(None, self.rule) if self.noise is None else Row(self.perturb, self.rule)


PERTURBATIONS: dict[str, lb.Perturbation] = {
    "GNC": GNC,
    "GNC-plain": lb.GNC(alpha=2.0, scaling="plain"),
    "RNC": lb.RNC(alpha=0.5),
    "SAM": lb.SAM(rho=0.1),
    "m-SAM": lb.SAM(rho=0.1, per_worker=True),
    "permuted": lb.MatchedNoise(alpha=1.0),
    "isotropic": lb.MatchedNoise(alpha=1.0, kind="isotropic"),
    "eigen": lb.EigenNoise(rho=0.1, k=1),
    "eigen-differences": lb.EigenNoise(rho=0.1, k=1, method="differences"),
    "extrapolation": lb.Extrapolation(inner_lr=0.3),
    "past": lb.Extrapolation(inner_lr=0.3, kind="past"),
    "noise": lb.Extrapolation(inner_lr=0.02, kind="noise"),
    "switch": lb.Switch(lb.GNC(alpha=1.0), lb.RNC(alpha=0.5), at_step=10),
}
NOISES: dict[str, lb.contracts.GradientNoise] = {
    "AnnealedNoise": lb.AnnealedNoise(eta=0.05),
    "AnnealedNoise-weights": lb.AnnealedNoise(eta=0.01, placement="weights"),
}
# GNC looks as far as the rule's rate lets it step: with small rates its alpha is larger.
RULES: dict[str, tuple[Rule, float]] = {
    "SGD": (SGD, 1.0),
    "AdamW": (partial(torch.optim.AdamW, lr=0.01), 10.0),
    "SNGM": (partial(lb.SNGM, lr=0.1, weight_decay=1e-3), 1.0),
    "LARS": (partial(lb.LARS, lr=0.5, trust_coefficient=0.1, weight_decay=1e-3), 1.0),
    "LARS2020": (partial(lb.LARS2020, lr=0.03, weight_decay=1e-3), 1.0),
    "CLARS": (partial(lb.CLARS, lr=0.5, trust_coefficient=0.1, cap=1.0, weight_decay=1e-3), 3.0),
    "LAMB": (partial(lb.LAMB, lr=0.02, weight_decay=1e-3), 20.0),
    "PercentDelta": (partial(lb.PercentDelta, lr=0.03), 1.0),
    "MCLR": (partial(lb.MCLR, lr=0.003), 1.0),
    "CBLR": (partial(lb.CBLR, lr=0.03), 10.0),
    "CBLR-hessian": (partial(lb.CBLR, lr=0.01, diagonal="hessian", damping=0.1), 30.0),
}
ROWS: dict[str, Row] = {
    **{name: Row(perturb) for name, perturb in PERTURBATIONS.items()},
    **{name: Row(GNC, noise=noise) for name, noise in NOISES.items()},
    **{name: Row(lb.GNC(alpha), rule) for name, (rule, alpha) in RULES.items()},
}


def exported(kind: type) -> set[type]:
    """The finished classes of a kind that ``largebatch`` exports."""
    kinds = (each for each in vars(lb).values() if isinstance(each, type))
    return {each for each in kinds if issubclass(each, kind) and each is not kind}


def kinds_of(methods: Iterable[Any]) -> set[type]:
    """What the methods, or the rules that make them, are."""
    return {each.func if isinstance(each, partial) else type(each) for each in methods}
