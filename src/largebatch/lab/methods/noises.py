"""What is done to the combined gradient, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

import largebatch as lb
from largebatch.batching.small_gradients import check_keep, keep_largest
from largebatch.contracts import GradientNoise

from .kinds import Noise, Part

__all__ = ["NOISES"]


@dataclass(frozen=True)
class _Largest(GradientNoise):
    """No noise, but done where noise is: the combined gradient without its small values."""

    keep: float

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def add(self, tensors: Sequence[Tensor | None], step: int, scale: float | Tensor) -> None:
        for tensor in tensors:
            if tensor is not None:
                keep_largest(tensor, self.keep)


_FOUND: tuple[Noise, ...] = (
    Part(
        "agn",
        "annealed Gaussian noise on the gradient",
        "Even larger batch size, 2020, Eq. 1-2",
        lambda eta, run: lb.AnnealedNoise(eta, seed=run.seed),
        0.01,
        parameter="eta",
        step=5.0,
        by_worker=False,
    ),
    Part(
        "agn-weights",
        "annealed Gaussian noise on the weights, outside the rate",
        "Even larger batch size, 2020, Sec. 3",
        lambda eta, run: lb.AnnealedNoise(eta, seed=run.seed, placement="weights"),
        0.002,
        parameter="eta",
        step=5.0,
        by_worker=False,
    ),
    Part(
        "largest",
        "without each parameter's small gradient values",
        "named in Gao and Zhong 2020, Sec. 3",
        lambda keep, run: _Largest(keep),
        0.5,
        parameter="keep",
        step=2.0**0.5,
        most=1.0,
        by_worker=False,
    ),
)

NOISES = {part.name: part for part in _FOUND}
