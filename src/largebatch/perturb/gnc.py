"""Gradient noise convolution: each worker looks along its own gradient noise of the last step.

    omega_i = g_i(t-1) - g(t-1)                  zero at the first step; sum_i omega_i = 0
    offset_i     = -alpha·eta·omega_i            plain
    offset_i^(p) = -alpha·eta·‖w^(p)‖·omega_i^(p)    filter-wise, p a filter

Shapes: omega_i and offset_i have the weight's; eta is the rate of the weight's group.
Source: Haruki et al., "Gradient Noise Convolution", Algorithm 1, Eq. 3, 4 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..contracts import Memorized, Perturbation, Point, RateKind
from .filters import Scaling, check_options, factors

__all__ = ["GNC"]


@dataclass(frozen=True)
class GNC(Perturbation):
    """Gradient noise convolution (GNC, Algorithm 1; filter-wise as Eq. 6).

    Costs one copy of the parameters per local worker and no extra gradient.

    Args:
        alpha: width of the noise, 0 or more. The document's settings lie between 0.0001 and 0.1
            with filter-wise scaling, tuned per batch size. An alpha is at work where
            ``Workers.offset_to_weight_norm`` is well above rounding (1e-7 in float32) and, as a
            rule of thumb that was not measured, below about 0.1; look at it first, then tune
            around it in factors of 3.
        scaling: "filter" (Eq. 6, leaves one-dimensional parameters where they are) or "plain".
        rate: what eta is: "global", the rate of the weight's group; "layer", that times the scale
            of the weight's last step; None takes "layer" under layer-wise optimizers.

    Raises:
        ValueError: alpha negative or not finite; unknown scaling or rate.

    Example:
        >>> import torch
        >>> import largebatch as lb
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> workers = lb.Workers(model, optimizer, perturb=GNC(alpha=0.1), count=4)
        >>> x, y = torch.randn(32, 4), torch.randint(2, (32,))
        >>> loss = workers.backward(
        ...     lambda x, y: torch.nn.functional.cross_entropy(model(x), y), x, y
        ... )
        >>> optimizer.step()
    """

    alpha: float
    scaling: Scaling = "filter"
    rate: RateKind | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_options("GNC", self.alpha, self.scaling, self.rate)

    def remembers(self, step: int) -> Memorized:
        """Gradient noise."""
        return "noise"

    def broadcasts(self, step: int) -> bool:
        """Noise is multiplied element by element."""
        return True

    @property
    def sharded(self) -> bool:
        """Filters' norms are of whole filters."""
        return True

    @property
    def least_workers(self) -> int:
        """Two: a single worker's gradient is the mean, and its noise zero for ever."""
        return 2

    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """-alpha·eta·c·omega_i, c the filter's norm or 1; nothing before the first step."""
        if memory is None:
            return [None] * len(point.weights)
        found = point.once(self, lambda: factors(point, self.alpha, self.scaling, self.rate))
        # A slot of another dtype is read as the weight's: its rounding is the noise dtype's alone.
        return [
            None if factor is None else omega.to(w.dtype) * factor
            for w, omega, factor in zip(point.weights, memory, found, strict=True)
        ]
