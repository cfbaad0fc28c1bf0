r"""Annealed noise on the combined gradient.

    a_t = eta / (1 + t)^gamma,   sigma_t ~ N(0, I)

    g_t <- g_t + a_t * sigma_t                            placement "gradient"   [1-2]
    w_t <- (the optimizer's step with g_t) + a_t*sigma_t  placement "weights"    [after 2]

Symbols: t: number of the step, from 0; eta: noise of the first step, in the units of a gradient
("weights": of a weight); gamma: how fast it fades. Shapes: sigma_t has the parameters'.
Source: "Even larger batch size with additive gradient noise" (AGN), Eq. 1-2; the second placement
is the update of its Section 3, whose noise stands outside the rate. Neelakantan et al. (2016) call
the same expression the variance; here it is the deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import get_args

import torch
from torch import Tensor

from .contracts import GradientNoise, Placement
from .layout import layouts_of
from .mesh import local
from .seeding import normal

__all__ = ["AnnealedNoise"]

# Stands where the names of perturbations' draws have the step, which is never negative: their
# numbers and these do not coincide, whatever the seeds.
_GRADIENT = -0x6772616469656E74


@dataclass(frozen=True)
class AnnealedNoise(GradientNoise):
    """Annealed gradient noise (AGN, Eq. 1-2): standard normal noise times eta/(1+t)^gamma.

    What is drawn follows from seed, step and the parameter's place among those that the optimizers
    hold: every process draws the same, and so does a resumed run. Half-precision gradients get
    noise drawn in float32 and rounded once, with the sum.

    Cost: one normal number per parameter and step, and the memory of the largest parameter.

    Args:
        eta: noise of the first step, 0 or more; the document's are 0.005, 0.01 and 0.3, and 1 for
            full batches (simulated SGD).
        gamma: how fast it fades, 0 (never) or more.
        seed: of the noise.
        placement: "gradient", before clipping, momentum and the rate (Eq. 1); "weights", added by
            the step itself, outside all of them (the document's other form, Section 3).

    Raises:
        ValueError: eta or gamma negative or not finite, an unknown placement, a seed too large.

    Example:
        >>> import largebatch as lb
        >>> noise = lb.AnnealedNoise(eta=0.3)
        >>> [round(noise.deviation(t), 3) for t in (0, 1, 99)]
        [0.3, 0.205, 0.024]
    """

    eta: float
    gamma: float = 0.55
    seed: int = 0
    _: KW_ONLY
    placement: Placement = "gradient"

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, value in (("eta", self.eta), ("gamma", self.gamma)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"AnnealedNoise needs 0 <= {name} < infinity, got {name}={value}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"AnnealedNoise needs a seed of 64 signed bits, got seed={self.seed}")
        if self.placement not in get_args(Placement):
            raise ValueError(
                "AnnealedNoise needs placement='gradient' or 'weights', got "
                f"placement={self.placement!r}"
            )

    def deviation(self, step: int) -> float:
        """a_t: the standard deviation of each coordinate's noise at step ``step``."""
        return float(self.eta / (1 + step) ** self.gamma)

    def add(self, tensors: Sequence[Tensor | None], step: int, scale: float | Tensor) -> None:
        """Add a_t*sigma_t times ``scale``, one parameter after another."""
        deviation = self.deviation(step)
        # Each sum is taken in the wider of the two dtypes and rounded once, into the tensor.
        for place, tensor in enumerate(tensors):
            if tensor is None:
                continue
            [layout], piece = layouts_of([tensor]), local(tensor)
            wide = torch.promote_types(tensor.dtype, torch.float32)
            names = (self.seed, _GRADIENT, step, place)
            noise = layout.cut(normal(piece, *names, dtype=wide, shape=layout.shape))
            if isinstance(scale, Tensor):
                piece.add_(noise.mul_(scale.to(piece.device)), alpha=deviation)
            else:
                piece.add_(noise, alpha=deviation * scale)
