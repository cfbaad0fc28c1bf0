r"""Extrapolation: look where a small-batch step would lead, then take the gradient there.

    offset_i = -eta_inner * h_i

    h_i: "fresh": the gradient at w on another small batch          two gradients a step
         "past": the worker's own gradient of the step before       one, zero at the first step
         "noise": N(0, 1) per coordinate, from (seed, step, worker, parameter)     one

Shapes: h_i and the offset have the weights'; eta_inner: inner rate, in the units of a learning
rate ("noise": of the weights).
Source: Lin, Kong, Stich, Jaggi, "Extrapolation for large-batch training in deep learning" (2020),
Algorithm 1 and its family of extrapolations (Section 4); the fresh one is EXTRAP-SGD as Zhao et al.
(SNGM, 2024) compare with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from ..contracts import Memorized, Perturbation, Point
from ..layout import Layout
from ..seeding import normal
from .filters import check_seed, check_width

__all__ = ["Extrapolation"]

Kind = Literal["fresh", "past", "noise"]


@dataclass(frozen=True)
class Extrapolation(Perturbation):
    """Extrapolated SGD (Lin et al. 2020): the gradient at the end of an inner step.

    The fresh gradient wants other examples than the worker's own: those of ``inner=`` in
    ``Workers.backward`` and ``shards``, else the shard of the next worker of the same process (its
    own where there is one worker on it: give ``inner=`` there).

    Args:
        inner_lr: eta_inner, 0 or more.
        kind: "fresh", "past" or "noise".
        seed: of the noise.

    Raises:
        ValueError: inner_lr negative or not finite, an unknown kind, a seed too large.

    Example:
        >>> Extrapolation(inner_lr=0.1, kind="past").remembers(0)
        'gradient'
    """

    inner_lr: float
    kind: Kind = "fresh"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_width("Extrapolation", "inner_lr", self.inner_lr)
        check_seed("Extrapolation", self.seed)
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"Extrapolation needs kind='fresh', 'past' or 'noise', got {self.kind!r}"
            )

    def passes(self, step: int) -> Literal[1, 2]:
        """Two for a fresh gradient."""
        return 2 if self.kind == "fresh" else 1

    def elsewhere(self, step: int) -> bool:
        """The fresh gradient is of another small batch."""
        return self.kind == "fresh"

    def remembers(self, step: int) -> Memorized:
        """The worker's gradient, for the past kind."""
        return "gradient" if self.kind == "past" else "nothing"

    def broadcasts(self, step: int) -> bool:
        """The past kind only multiplies."""
        return self.kind == "past"

    @property
    def sharded(self) -> bool:
        """Noise is drawn for whole parameters."""
        return True

    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """-eta_inner*h_i; nothing before the first step for the past kind."""
        if self.kind == "noise":
            laid = zip(point.weights, point.layouts, strict=True)
            return [self._noise(*each, point.step, worker, j) for j, each in enumerate(laid)]
        if memory is None:
            return [None] * len(point.weights)
        pairs = zip(point.weights, memory, strict=True)
        return [h.to(w.dtype) * -self.inner_lr for w, h in pairs]

    def _noise(self, weight: Tensor, layout: Layout, step: int, worker: int, place: int) -> Tensor:
        drawn = normal(weight, self.seed, step, worker, place, shape=layout.shape)
        return layout.cut(drawn).mul_(-self.inner_lr)
