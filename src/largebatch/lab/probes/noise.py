"""Probes of how workers differ: in their gradients, and in where they look."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from largebatch import probes

from .kind import ProbeKind
from .moment import Moment

__all__ = ["PROBES", "kept_gradients", "offsets"]


@contextmanager
def kept_gradients(at: Moment) -> Iterator[probes.WorkerGradients]:
    """Within, a step's worker gradients are kept, of all processes'."""
    over = torch.distributed.is_available() and torch.distributed.is_initialized()
    group = torch.distributed.group.WORLD if over else None
    kept = probes.WorkerGradients(process_group=group)
    handle = at.workers.listen(kept)
    try:
        yield kept
    finally:
        handle.remove()
        kept.free()


@torch.no_grad()
def offsets(at: Moment) -> list[Tensor]:
    """Where each local worker will look less the weights, of each layer in training a row each."""
    weights = [p for p in at.model.parameters() if p.requires_grad]
    clean = [p.detach().clone() for p in weights]
    found = []
    for worker in range(at.workers.count):
        with at.workers.at(worker):
            found.append([p - c for p, c in zip(weights, clean, strict=True)])
    return [torch.stack(each) for each in zip(*found, strict=True)]


def _noise(at: Moment) -> Generator[None, None, probes.NoiseCovariance]:
    with kept_gradients(at) as kept:
        yield
        return probes.noise_covariance(kept.layers, kept.rows(), seed=at.seed)


def _offset(at: Moment) -> Generator[None, None, probes.NoiseCovariance]:
    names = [name for name, p in at.model.named_parameters() if p.requires_grad]
    found = probes.noise_covariance(names, offsets(at), seed=at.seed)
    yield
    return found


PROBES = (
    ProbeKind(
        "noise_covariance",
        "eigenvalues and condition number of the workers' gradient noise, layer by layer",
        "GNC, Section 3.2 and Fig. 4(a)",
        "none; memory for every worker's gradient",
        _noise,
        least_workers=2,
    ),
    ProbeKind(
        "offset_covariance",
        "the same of where the workers look: GNC's noise, RNC's, matched noise",
        "GNC, Section 3.2 and Fig. 4(a)",
        "none; memory for every worker's offset",
        _offset,
        least_workers=2,
        alone=True,
        one_pass=True,
    ),
)
