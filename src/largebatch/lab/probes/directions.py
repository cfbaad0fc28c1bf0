"""Where noise points: workers' offsets and their gradients against the Hessian's eigenvectors."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from largebatch import probes
from largebatch.curvature import Eigenpairs, top_eigenpairs
from largebatch.probes.alignment import Alignment, alignment
from largebatch.probes.worker_gradients import WorkerGradients

from .kind import ProbeKind
from .moment import Moment

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
    x, y = (part[: at.few] for part in at.train)
    pairs = _pairs(at, x, y)
    offsets = None if pairs is None else _aligned(_offsets(at), pairs, at)
    kept = WorkerGradients()
    handle = at.workers.listen(kept)
    try:
        yield
        gradients = None if pairs is None else _aligned(kept.rows(), pairs, at)
    finally:
        handle.remove()
    return NoiseAlignment(offsets, gradients, len(x))


def _pairs(at: Moment, x: Tensor, y: Tensor) -> Eigenpairs | None:
    """The top pairs at the clean weights; None where a run is about to end as diverged."""
    parameters = [p for p in at.model.parameters() if p.requires_grad]
    with probes.untouched(at.model), torch.enable_grad():
        if not bool(torch.isfinite(at.loss(x, y))):
            return None
        few = min(EIGENVECTORS, sum(p.numel() for p in parameters))
        return top_eigenpairs(lambda: at.loss(x, y), parameters, few, seed=at.seed, step=at.step)


@torch.no_grad()
def _offsets(at: Moment) -> list[Tensor]:
    """Where each worker will look, less the weights: of each parameter (workers, the parameter)."""
    parameters = [p for p in at.model.parameters() if p.requires_grad]
    clean = [p.clone() for p in parameters]
    rows: list[list[Tensor]] = [[] for _ in parameters]
    for worker in range(at.workers.count):
        with at.workers.at(worker):
            for row, p, was in zip(rows, parameters, clean, strict=True):
                row.append(p - was)
    return [torch.stack(row) for row in rows]


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
        alone=True,
    ),
)
