"""Probes of the loss's surface: its Hessian, noise along its eigenvectors, lines and planes.

They look at so many training examples as the run's ``refresh_examples`` says, the same ones all
through the run.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from largebatch import probes
from largebatch.curvature import Eigenpairs
from largebatch.seeding import generator

from .kind import ProbeKind
from .moment import Moment
from .noise import kept_gradients, offsets

__all__ = ["PROBES", "few_examples", "in_order"]

EIGENVALUES = 10
# Keeps this draw apart from others that are named by as many integers.
_EXAMPLES = 0x4845


def few_examples(at: Moment) -> tuple[Tensor, Tensor]:
    """The examples that are looked at, drawn once for the run."""
    x, y = at.train
    order = torch.randperm(len(x), generator=generator("cpu", _EXAMPLES, at.seed))
    chosen = order[: at.few].sort().values.to(x.device)
    return x[chosen], y[chosen]


def _chunk(at: Moment) -> int | None:
    return at.chunk if at.chunk < min(at.few, len(at.train[0])) else None


def _pairs(at: Moment) -> Eigenpairs:
    return probes.eigenpairs(
        at.model, at.loss, few_examples(at), EIGENVALUES, chunk=_chunk(at), seed=at.seed
    )


def _hessian(at: Moment) -> Generator[None, None, probes.Hessian]:
    found = probes.hessian(
        at.model, at.loss, few_examples(at), k=EIGENVALUES, chunk=_chunk(at), seed=at.seed
    )
    yield
    return found


def _alignment(at: Moment) -> Generator[None, None, probes.Alignment]:
    pairs = _pairs(at)
    with kept_gradients(at) as kept:
        yield
        return probes.alignment(kept.rows(), in_order(at, pairs, kept.layers), seed=at.seed)


def in_order(at: Moment, pairs: Eigenpairs, layers: list[str]) -> Eigenpairs:
    """The eigenvectors' layers in the order in which the optimizers hold them."""
    names = [name for name, p in at.model.named_parameters() if p.requires_grad]
    known = dict(zip(names, pairs.vectors, strict=True))
    vectors = [known[name] for name in layers]
    return Eigenpairs(pairs.values, vectors, pairs.residuals)


def _offset_alignment(at: Moment) -> Generator[None, None, probes.Alignment]:
    found = probes.alignment(offsets(at), _pairs(at), seed=at.seed)
    yield
    return found


def _line(at: Moment) -> Generator[None, None, probes.LossLine]:
    found = probes.loss_line(at.model, at.loss, few_examples(at), chunk=at.chunk, seed=at.seed)
    yield
    return found


def _plane(at: Moment) -> Generator[None, None, probes.LossPlane]:
    found = probes.loss_plane(at.model, at.loss, few_examples(at), chunk=at.chunk, seed=at.seed)
    yield
    return found


PRODUCTS = "at most {} Hessian products on refresh_examples examples"
PROBES = (
    ProbeKind(
        "hessian",
        "top eigenvalues, trace, mean magnitude of the diagonal by layer",
        "Lanczos; Hutchinson (1990)",
        PRODUCTS.format(110),
        _hessian,
    ),
    ProbeKind(
        "alignment",
        "share of the gradient noise along the Hessian's top eigenvectors, and of isotropic noise",
        "REV; Zhu et al. (2018)",
        PRODUCTS.format(90),
        _alignment,
        least_workers=3,
    ),
    ProbeKind(
        "offset_alignment",
        "the same of where the workers look: GNC's noise, RNC's, matched noise",
        "REV; Zhu et al. (2018)",
        PRODUCTS.format(90),
        _offset_alignment,
        least_workers=3,
        alone=True,
        one_pass=True,
    ),
    ProbeKind(
        "loss_line",
        "loss along a filter-normalized random direction",
        "Li et al. (2018)",
        "21 forward passes of refresh_examples examples",
        _line,
    ),
    ProbeKind(
        "loss_plane",
        "loss on a plane of two such directions",
        "Li et al. (2018)",
        "121 forward passes of refresh_examples examples",
        _plane,
    ),
)
