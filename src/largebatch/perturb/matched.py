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
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from ..contracts import Memorized, Perturbation, Point, RateKind
from ..layout import Layout, totals
from ..seeding import generator, normal
from .filters import Scaling, check_options, check_seed
from .gnc import GNC

__all__ = ["MatchedNoise"]

Kind = Literal["permuted", "isotropic"]
# Keeps the draws apart from those of the workers, whose numbers are 0 and above.
_SHARED = -1


@dataclass(frozen=True)
class MatchedNoise(Perturbation):
    """Noise of GNC's size in other directions.

    Costs GNC's memory, and from a step's first worker to the next step's 12 bytes a parameter for
    the permutations, or one copy of the parameters for the draws' mean, which takes drawing every
    worker's noise twice.

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
    def sharded(self) -> bool:
        """Permuted, each offset is gathered whole; isotropic, drawn whole and cut."""
        return True

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
        for place, (offset, layout) in enumerate(zip(offsets, point.layouts, strict=True)):
            if offset is None:
                made.append(None)
                continue
            rows = self._rows(layout.joined(offset))
            draw = partial(self._draw_order, rows, point.step, place)
            order, signs = point.once((self, "order", place), draw)
            made.append(layout.cut(rows.gather(1, order).mul_(signs).view(layout.shape)))
        return made

    def _draw_order(self, rows: Tensor, step: int, place: int) -> tuple[Tensor, Tensor]:
        """For each row an order of its coordinates, and their signs."""
        source = generator(rows.device, self.seed, step, _SHARED, place)
        keys = torch.empty(rows.shape, device=rows.device, dtype=torch.int64)
        order = keys.random_(generator=source).argsort(1)
        coins = torch.empty(rows.shape, device=rows.device, dtype=rows.dtype)
        return order, coins.bernoulli_(0.5, generator=source).mul_(2).sub_(1)

    def _rows(self, tensor: Tensor) -> Tensor:
        """One filter a row; all in one row where scaling is plain."""
        return tensor.flatten(1) if self.scaling == "filter" else tensor.reshape(1, -1)

    def _isotropic(self, point: Point, worker: int) -> list[Tensor | None]:
        sizes = point.once((self, "sizes"), lambda: self._sizes(point))
        made: list[Tensor | None] = []
        each = zip(point.weights, point.layouts, sizes, strict=True)
        for place, (weight, layout, size) in enumerate(each):
            if size is None:
                made.append(None)
                continue
            draw = partial(self._mean_draw, weight, layout, point, place)
            mean, spread = point.once((self, "draws", place), draw)
            drawn = _drawn(weight, layout, self.seed, point.step, worker, place).sub_(mean)
            factor = torch.where(spread > 0, size / spread, torch.zeros_like(size))
            made.append(self._rows(drawn).mul_(factor).view(weight.shape).to(weight.dtype))
        return made

    def _sizes(self, point: Point) -> list[Tensor | None]:
        """Root mean square over workers of each filter's norm; None where GNC has no offset."""
        gnc = self._gnc

        def squares(memory: Sequence[Tensor]) -> list[Tensor]:
            offsets = gnc.offsets(point, 0, memory)
            return [
                torch.zeros(()) if o is None else self._squares(o.to(_wide(o))) for o in offsets
            ]

        means = point.mean_over_workers((self, "squares"), squares)
        whole = self._whole_rows(point.layouts, means)
        return [None if mean.ndim == 0 else mean.sqrt() for mean in whole]

    def _whole_rows(self, layouts: Sequence[Layout], sums: Sequence[Tensor]) -> list[Tensor]:
        """Sums over each row, also where a row lies on several processes."""
        found = list(sums)
        cut = [j for j, each in enumerate(layouts) if self.scaling == "plain" or each.cuts_filters]
        whole = totals([layouts[j] for j in cut], [sums[j] for j in cut])
        for j, each in zip(cut, whole, strict=True):
            found[j] = each
        return found

    def _mean_draw(
        self, weight: Tensor, layout: Layout, point: Point, place: int
    ) -> tuple[Tensor, Tensor]:
        """The mean of all workers' draws, and the root mean square norm of their differences."""
        mean = torch.zeros(weight.shape, dtype=_wide(weight), device=weight.device)
        squares = self._squares(mean)
        for worker in range(point.workers):
            # Welford's recursion: the difference of two sums would lose what few coordinates have.
            drawn = _drawn(weight, layout, self.seed, point.step, worker, place)
            before = drawn - mean
            mean += before / (worker + 1)
            squares += self._rows(before.mul_(drawn.sub_(mean))).sum(1, keepdim=True)
        [whole] = self._whole_rows([layout], [squares])
        return mean, (whole / point.workers).sqrt()

    def _squares(self, tensor: Tensor) -> Tensor:
        """Squared norm of each row."""
        return self._rows(tensor).square().sum(1, keepdim=True)


def _wide(weight: Tensor) -> torch.dtype:
    """Sums over workers and coordinates are not to be rounded to a half."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _drawn(weight: Tensor, layout: Layout, seed: int, step: int, worker: int, place: int) -> Tensor:
    names = (seed, step, worker, place)
    return layout.cut(normal(weight, *names, dtype=_wide(weight), shape=layout.shape))
