"""Steps of made-up worker gradients, told to a listener as Workers tells them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def feed(
    probe, workers: Sequence[Sequence[Tensor | None]], weights=None, step=0, names=None, factor=1.0
) -> None:
    """One step: a list of gradients a worker, each `factor` too small."""
    weights = [1.0] * len(workers) if weights is None else weights
    first = next(w for w in workers if all(g is not None for g in w))
    parameters = PARAMETERS.setdefault(
        tuple(g.shape for g in first), [torch.zeros_like(g) for g in first]
    )
    names = [f"layer{j}" for j in range(len(parameters))] if names is None else names
    if hasattr(probe, "numbered"):
        probe.numbered(0)
    if hasattr(probe, "starts"):
        probe.starts(step, names, parameters)
    for i, (gradients, weight) in enumerate(zip(workers, weights, strict=True)):
        probe.saw(i, parameters, gradients, factor=factor, weight=weight)
    probe.combined(mean(workers, weights), factor=factor)


def mean(workers, weights) -> list[Tensor | None]:
    found = []
    for each in zip(*workers, strict=True):
        given = [(g, w) for g, w in zip(each, weights, strict=True) if g is not None]
        found.append(sum(g * w for g, w in given) / sum(weights) if given else None)
    return found


PARAMETERS: dict = {}


class Noisy:
    """Worker gradients with a known mean and covariance, in examples."""

    def __init__(self, means: Sequence[Tensor], spreads: Sequence[Tensor], seed: int = 0) -> None:
        self.means, self.spreads = means, spreads
        self.source = torch.Generator().manual_seed(seed)

    def worker(self, examples: float) -> list[Tensor]:
        return [
            m + s * torch.randn(m.shape, generator=self.source, dtype=m.dtype) / examples**0.5
            for m, s in zip(self.means, self.spreads, strict=True)
        ]

    def steps(self, count: int, examples: Sequence[float]) -> Iterator[list[list[Tensor]]]:
        for _ in range(count):
            yield [self.worker(each) for each in examples]
