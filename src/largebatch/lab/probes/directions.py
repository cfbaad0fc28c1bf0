"""Where noise points: workers' offsets and their gradients against the Hessian's eigenvectors."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from largebatch import probes
from largebatch.curvature import Eigenpairs, top_eigenpairs
from largebatch.probes.alignment import Alignment, alignment

from .hessian import few_examples, in_order
from .kind import ProbeKind
from .moment import Moment
from .noise import kept_gradients, offsets

__all__ = ["PROBES", "NoiseAlignment"]

EIGENVECTORS = 5


@dataclass(frozen=True)
class NoiseAlignment:
    """Two alignments at the same weights, with the same eigenvectors.

    Attributes:
        offsets: of the weights at which workers look; None where they all look at the same.
        gradients: of the workers' gradients, taken where they look.
        examples: of the training data, that the Hessian is taken on.
    """

    offsets: Alignment | None
    gradients: Alignment | None
    examples: int


def _noise_alignment(at: Moment) -> Generator[None, None, NoiseAlignment]:
    x, y = few_examples(at)
    pairs = _pairs(at, x, y)
    looks = None if pairs is None else _aligned(offsets(at), pairs, at)
    with kept_gradients(at) as kept:
        yield
        gradients = None
        if pairs is not None:
            gradients = _aligned(kept.rows(), in_order(at, pairs, kept.layers), at)
    return NoiseAlignment(looks, gradients, len(x))


def _pairs(at: Moment, x: Tensor, y: Tensor) -> Eigenpairs | None:
    """The top pairs at the clean weights; None where a run is about to end as diverged."""
    parameters = [p for p in at.model.parameters() if p.requires_grad]
    with probes.untouched(at.model), torch.enable_grad():
        if not bool(torch.isfinite(at.loss(x, y))):
            return None
        few = min(EIGENVECTORS, sum(p.numel() for p in parameters))
        return top_eigenpairs(lambda: at.loss(x, y), parameters, few, seed=at.seed, step=at.step)


def _aligned(rows: Iterable[Tensor], pairs: Eigenpairs, at: Moment) -> Alignment | None:
    """None where the rows are all the same, and point nowhere."""
    found = list(rows)
    if all(bool((row == row[:1]).all()) for row in found):
        return None
    return alignment(found, pairs, draws=1000, seed=at.seed)


PROBES = (
    ProbeKind(
        "noise_alignment",
        "shares of workers' offsets and of their gradients in the Hessian's top eigenvectors",
        "the question of REV on GNC",
        "20 Hessian products on refresh_examples examples",
        _noise_alignment,
        least_workers=3,
        alone=True,
        one_pass=True,
    ),
)
