"""Probes of the gradient that a step has combined."""

from __future__ import annotations

from collections.abc import Generator

import torch

from largebatch import probes

from .kind import ProbeKind
from .moment import Moment

__all__ = ["PROBES"]


def _cosine(at: Moment) -> Generator[None, None, probes.GradientCosine]:
    with probes.untouched(at.model):
        full = probes.gradient(at.model, at.loss, at.train, chunk=at.chunk)
    yield
    named = [(n, p) for n, p in at.model.named_parameters() if p.requires_grad]
    large = [torch.zeros_like(p) if p.grad is None else p.grad for _, p in named]
    return probes.cosine_between([n for n, _ in named], full, large)


PROBES = (
    ProbeKind(
        "gradient_cosine",
        "cosine between the full data's gradient and the step's",
        "GNC, Fig. 3",
        "one gradient of the full data",
        _cosine,
    ),
)
