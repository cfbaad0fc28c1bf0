"""Every perturbation, gradient noise and update rule, with arguments with which each shows.

The rows of docs/works-with.md: a perturbation with momentum SGD, a gradient noise beside GNC, and
an update rule with GNC. Where a test goes through them, its id ends with the row's key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import largebatch as lb

Rule = partial[torch.optim.Optimizer]  # of parameters

SGD: Rule = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
GNC = lb.GNC(alpha=2.0)


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
    "SAM": lb.SAM(rho=0.2),
    "m-SAM": lb.SAM(rho=0.2, per_worker=True),
    "permuted": lb.MatchedNoise(alpha=3.0),
    "isotropic": lb.MatchedNoise(alpha=3.0, kind="isotropic"),
    "eigen": lb.EigenNoise(rho=0.1, k=1),
    "eigen-differences": lb.EigenNoise(rho=0.1, k=1, method="differences"),
    "extrapolation": lb.Extrapolation(inner_lr=0.3),
    "past": lb.Extrapolation(inner_lr=0.3, kind="past"),
    "noise": lb.Extrapolation(inner_lr=0.02, kind="noise"),
    "switch": lb.Switch(GNC, lb.RNC(alpha=0.5), at_step=10),
}
NOISES: dict[str, lb.contracts.GradientNoise] = {
    "AnnealedNoise": lb.AnnealedNoise(eta=0.05),
    "AnnealedNoise-weights": lb.AnnealedNoise(eta=0.01, placement="weights"),
}
# GNC looks as far as the rule's rate lets it step: with small rates its alpha is larger. The rates
# of layers differ too much between networks under some rules to measure by them.
RULES: dict[str, tuple[Rule, lb.GNC]] = {
    "SGD": (SGD, GNC),
    "AdamW": (partial(torch.optim.AdamW, lr=0.01), lb.GNC(20.0)),
    "SNGM": (partial(lb.SNGM, lr=0.1, weight_decay=1e-3), GNC),
    "LARS": (partial(lb.LARS, lr=0.5, trust_coefficient=0.1, weight_decay=1e-3), lb.GNC(1.0)),
    "LARS2020": (partial(lb.LARS2020, lr=0.03, weight_decay=1e-3), lb.GNC(0.3)),
    "CLARS": (
        partial(lb.CLARS, lr=0.5, trust_coefficient=0.1, cap=1.0, weight_decay=1e-3),
        lb.GNC(3.0),
    ),
    "LAMB": (partial(lb.LAMB, lr=0.02, weight_decay=1e-3), lb.GNC(60.0)),
    "PercentDelta": (partial(lb.PercentDelta, lr=0.03), lb.GNC(10.0, rate="global")),
    "MCLR": (partial(lb.MCLR, lr=0.003), lb.GNC(100.0, rate="global")),
    "CBLR": (partial(lb.CBLR, lr=0.03), lb.GNC(10.0)),
    "CBLR-hessian": (partial(lb.CBLR, lr=0.01, diagonal="hessian", damping=0.1), lb.GNC(30.0)),
}
ROWS: dict[str, Row] = {
    **{name: Row(perturb) for name, perturb in PERTURBATIONS.items()},
    **{name: Row(GNC, noise=noise) for name, noise in NOISES.items()},
    **{name: Row(gnc, rule) for name, (rule, gnc) in RULES.items()},
}


def steps_on_rounding(row: Row) -> bool:
    """Whether the rule makes whole steps of a gradient that is nothing but rounding.

    A bias before batch norm has one such: where sums are taken in another order it goes elsewhere.
    """
    return row.rule.func in (lb.PercentDelta, lb.MCLR)


def passes(perturb: lb.Perturbation | None, step: int, count: int) -> list[int]:
    """Which of a step's micro-batches each pass of a loop by hand is on."""
    every = list(range(count))
    if perturb is None or perturb.passes(step) == 1:
        return every
    if perturb.scope(step) == "batch":
        return every + every
    looks = every[1:] + every[:1] if perturb.elsewhere(step) else every
    return [place for pair in zip(looks, every, strict=True) for place in pair]


def exported(kind: type) -> set[type]:
    """The finished classes of a kind that ``largebatch`` exports."""
    kinds = (each for each in vars(lb).values() if isinstance(each, type))
    return {each for each in kinds if issubclass(each, kind) and each is not kind}


def kinds_of(methods: Iterable[Any]) -> set[type]:
    """What the methods, or the rules that make them, are."""
    return {each.func if isinstance(each, partial) else type(each) for each in methods}
