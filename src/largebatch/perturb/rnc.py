"""Random noise convolution: GNC's isotropic rival.

    omega_i ~ U[-1, 1] per coordinate, drawn from (seed, step, worker, parameter)
    offset_i     = -alpha·eta·omega_i                                plain
    offset_i^(p) = -alpha·eta·‖w^(p)‖·omega_i^(p)/‖omega_i^(p)‖      filter-wise

Source: Haruki et al. (GNC), Section 2.3 and Eq. 5. "Uniform on the unit cube" with zero mean is
read as [-1, 1] per coordinate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..contracts import Perturbation, Point, RateKind
from ..filters import size
from ..layout import Layout
from ..seeding import generator
from .filters import Scaling, check_options, check_seed, factors

__all__ = ["RNC"]


@dataclass(frozen=True)
class RNC(Perturbation):
    """Random noise convolution (GNC, Section 2.3; filter-wise as Eq. 5).

    Needs no memory. Filter-wise, an offset's norm is exactly alpha·eta times its filter's.

    Args:
        alpha: width of the noise, 0 or more; the document's lie between 0.001 and 4.
        scaling: "filter" (one-dimensional parameters stay where they are) or "plain".
        seed: of the noise; with the step, the worker and the parameter's place it says it all.
        rate: what eta is, as for :class:`~largebatch.GNC`.

    Raises:
        ValueError: alpha negative or not finite; unknown scaling or rate; seed too large.

    Example:
        >>> RNC(alpha=0.01, seed=3)
        RNC(alpha=0.01, scaling='filter', seed=3, rate=None)
    """

    alpha: float
    scaling: Scaling = "filter"
    seed: int = 0
    rate: RateKind | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_options("RNC", self.alpha, self.scaling, self.rate)
        check_seed("RNC", self.seed)

    @property
    def sharded(self) -> bool:
        """Noise is drawn for whole parameters."""
        return True

    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """One draw per parameter; parameters without filters are skipped filter-wise."""
        found = point.once(self, lambda: factors(point, self.alpha, self.scaling, self.rate))
        made: list[Tensor | None] = []
        each = zip(point.weights, point.layouts, found, strict=True)
        for j, (w, layout, factor) in enumerate(each):
            if factor is None:
                made.append(None)
                continue
            omega = self._draw(w, layout, point.step, worker, j)
            if self.scaling == "plain":
                made.append(layout.cut(omega) * factor)
            else:
                made.append(layout.cut(omega) * (factor / _pieces_length(omega, layout)))
        return made

    def _draw(self, weight: Tensor, layout: Layout, step: int, worker: int, place: int) -> Tensor:
        """For the whole parameter, of which the weight may be a piece."""
        source = generator(weight.device, self.seed, step, worker, place)
        # In the order of the indices, so that a weight's memory format makes no difference.
        drawn = torch.empty(layout.shape, dtype=weight.dtype, device=weight.device)
        return drawn.uniform_(-1, 1, generator=source)


def _pieces_length(omega: Tensor, layout: Layout) -> Tensor:
    """Norm of each filter of this process's piece, over the whole filter."""
    return _length(omega if layout.cuts_filters else layout.cut(omega))


def _length(omega: Tensor) -> Tensor:
    norm = size(omega)
    return torch.where(norm == 0, torch.ones_like(norm), norm)
