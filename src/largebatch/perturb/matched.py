r"""Matched noise: GNC's offsets with their direction taken out, to tell direction from size.

    permuted     offset_i^(p) = P^(p) o_i^(p)
    isotropic    offset_i^(p) = r^(p) * (xi_i^(p) - mean_j xi_j^(p)) / q^(p)

    o_i: GNC's offset of worker i (alpha, scaling and rate as there)    p: a filter
    P: one random signed permutation of a filter's coordinates a step, shared by all workers
    xi_i ~ N(0, I)    r^2 = mean_j ||o_j^(p)||^2    q^2 = mean_j ||xi_j^(p) - mean xi^(p)||^2

Both sum to zero over workers. Permuted, each worker's offset has exactly GNC's norm in each filter,
and the workers' Gram matrix stays GNC's; isotropic, the root mean square of the norms over workers
is GNC's, and each worker's own is not. Plain scaling takes a whole parameter as one filter.
Source: the ablation that REV (a review of GNC) asks for; here with matched norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..contracts import Memorized, Perturbation, Point, RateKind
from ..seeding import generator
from .filters import Scaling, check_options, check_seed
from .gnc import GNC

__all__ = ["MatchedNoise"]

Kind = Literal["permuted", "isotropic"]
# Keeps the draws apart from those of the workers, whose numbers are 0 and above.
_SHARED = -1


@dataclass(frozen=True)
class MatchedNoise(Perturbation):
    """Noise of GNC's size in other directions.

    Costs GNC's memory, and while a step runs 8 bytes a parameter for the permutations, or one
    copy of the parameters for the draws' mean.

    Args:
        alpha: as for :class:`~largebatch.GNC`, whose size it is matched to.
        kind: "permuted" or "isotropic".
        scaling: "filter" or "plain".
        seed: of the permutations or draws.
        rate: as for :class:`~largebatch.GNC`.

    Raises:
        ValueError: an argument has a value it cannot have.

    Example:
        >>> MatchedNoise(alpha=0.1, kind="isotropic").remembers(0)
        'noise'
    """

    alpha: float
    kind: Kind = "permuted"
    scaling: Scaling = "filter"
    seed: int = 0
    rate: RateKind | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_options("MatchedNoise", self.alpha, self.scaling, self.rate)
        check_seed("MatchedNoise", self.seed)
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"MatchedNoise needs kind='permuted' or 'isotropic', got {self.kind!r}"
            )

    @property
    def _gnc(self) -> GNC:
        return GNC(self.alpha, self.scaling, self.rate)

    def remembers(self, step: int) -> Memorized:
        """Gradient noise, as GNC."""
        return "noise"

    @property
    def least_workers(self) -> int:
        """Two, as GNC."""
        return 2

    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """GNC's offsets, permuted or drawn anew; nothing before the first step."""
        if memory is None:
            return [None] * len(point.weights)
        if self.kind == "permuted":
            return self._permuted(point, self._gnc.offsets(point, worker, memory))
        return self._isotropic(point, worker)

    def _permuted(self, point: Point, offsets: Sequence[Tensor | None]) -> list[Tensor | None]:
        made: list[Tensor | None] = []
        for place, offset in enumerate(offsets):
            if offset is None:
                made.append(None)
                continue
            key = (self, "order", place)
            order, signs = point.once(key, lambda o=offset, j=place: self._draw_order(o, point, j))
            rows = self._rows(offset)
            made.append((rows.gather(1, order) * signs).view(offset.shape))
        return made

    def _draw_order(self, offset: Tensor, point: Point, place: int) -> tuple[Tensor, Tensor]:
        """For each filter an order of its coordinates, and their signs."""
        source = generator(offset.device, self.seed, point.step, _SHARED, place)
        shape = self._rows(offset).shape
        keys = torch.empty(shape, device=offset.device, dtype=torch.float64)
        order = keys.uniform_(generator=source).argsort(1)
        coins = torch.empty(shape, device=offset.device, dtype=offset.dtype)
        return order, coins.bernoulli_(0.5, generator=source).mul_(2).sub_(1)

    def _rows(self, tensor: Tensor) -> Tensor:
        """One filter a row."""
        filters = tensor.shape[0] if self.scaling == "filter" else 1
        return tensor.reshape(filters, -1)

    def _isotropic(self, point: Point, worker: int) -> list[Tensor | None]:
        sizes = point.once((self, "sizes"), lambda: self._sizes(point))
        made: list[Tensor | None] = []
        for place, (weight, size) in enumerate(zip(point.weights, sizes, strict=True)):
            if size is None:
                made.append(None)
                continue
            key = (self, "draws", place)
            mean, spread = point.once(key, lambda w=weight, j=place: self._mean_draw(w, point, j))
            rows = self._rows(self._draw(weight, point.step, worker, place) - mean)
            factor = torch.where(spread > 0, size / spread, torch.zeros_like(size))
            made.append((rows * factor).view(weight.shape))
        return made

    def _sizes(self, point: Point) -> list[Tensor | None]:
        """Root mean square over workers of each filter's norm; None where GNC has no offset."""
        gnc = self._gnc
        weights = list(point.weights)

        def squares(memory: Sequence[Tensor]) -> list[Tensor]:
            offsets = gnc.offsets(point, 0, memory)
            return [
                torch.zeros((), device=w.device)
                if o is None
                else self._rows(o).square().sum(1, keepdim=True)
                for o, w in zip(offsets, weights, strict=True)
            ]

        means = point.mean_over_workers(squares)
        return [None if mean.ndim == 0 else mean.sqrt() for mean in means]

    def _mean_draw(self, weight: Tensor, point: Point, place: int) -> tuple[Tensor, Tensor]:
        """The mean of all workers' draws, and the root mean square norm of their differences."""
        total = torch.zeros(weight.shape, dtype=weight.dtype, device=weight.device)
        squares = torch.zeros((), device=weight.device)
        for worker in range(point.workers):
            drawn = self._draw(weight, point.step, worker, place)
            total += drawn
            squares = squares + self._rows(drawn).square().sum(1, keepdim=True)
        mean = total / point.workers
        spread = squares / point.workers - self._rows(mean).square().sum(1, keepdim=True)
        return mean, spread.clamp(min=0).sqrt()

    def _draw(self, weight: Tensor, step: int, worker: int, place: int) -> Tensor:
        source = generator(weight.device, self.seed, step, worker, place)
        drawn = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
        return drawn.normal_(generator=source)
