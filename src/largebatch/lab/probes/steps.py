"""Probes of steps, each of the one step around which it looks.

What they average or add up over steps is for the reader of the rows to do: a row is one step's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from largebatch import probes
from largebatch.contracts import Listener

from .kind import ProbeKind
from .moment import Look, Moment

__all__ = ["PROBES"]

R = TypeVar("R", covariant=True)


class _Heard(Listener, Protocol[R]):
    def result(self) -> R: ...


def _listening(make: Callable[[Moment], _Heard[object]]) -> Look:
    """A look that hears the step's workers."""

    def look(at: Moment) -> Generator[None, None, object]:
        probe = make(at)
        handle = at.workers.listen(probe)
        try:
            yield
        finally:
            handle.remove()
        return probe.result()

    return look


def _update_size(at: Moment) -> Generator[None, None, probes.UpdateSizeResult]:
    probe = probes.UpdateSize(at.model)
    handle = probe.attach(*at.optimizers)
    try:
        yield
    finally:
        handle.remove()
    return probe.result()


def _path_smoothness(at: Moment) -> Generator[None, None, probes.PathSmoothnessResult]:
    probe = probes.PathSmoothness(at.model, at.loss, at.batch, chunk=at.chunk)
    probe.before()
    yield
    probe.after()
    return probe.result()


PROBES = (
    ProbeKind(
        "noise_scale",
        "gradient noise scale: Euclidean, and in the norms of sign's and Muon's updates; signal to "
        "noise of each layer",
        "McCandlish et al. 2018; Naganuma et al. 2026",
        "none",
        _listening(
            lambda at: probes.NoiseScale(at.worker_size, decay=0.0, geometry=("sign", "spectral"))
        ),
    ),
    ProbeKind(
        "block_norms",
        "norm of the gradient over the sum of its blocks' norms, and its cosine with the "
        "block-normalized one",
        "SNGM, Section 6",
        "none",
        _listening(lambda at: probes.BlockNorms()),
    ),
    ProbeKind(
        "update_size",
        "mean change of a weight in the step, and the momentum's norm beside its bound",
        "CURV, Fig. 4, 5; SNGM, Lemma 2",
        "none",
        _update_size,
    ),
    ProbeKind(
        "path_smoothness",
        "change of the gradient over the length of the step, on the step's batch",
        "SNGM, Section 4",
        "2 gradients of the batch",
        _path_smoothness,
    ),
)
