"""What `perturb.py` times: each method as users write it, and what it cannot do without.

Needs. A method must pass over memory as large as the weights that it moves, or draw a number for
each coordinate, beyond what Workers does without it. A floor is the time that this machine takes
for so many bytes (at the rate of a copy) and numbers (drawn into one tensor, by the faster of
`normal_` and `uniform_`), as if one kernel did all the rest meanwhile:

    moving            reads the weight, writes its copy and the moved weight, reads the copy,
                      writes the weight: 5
    GNC               moves, reads the noise; gradient read and slot written, and at the end of the
                      step both once more for the difference to the mean: 5 + 1 + 4
    RNC               moves; a number a coordinate. What a filter's norm needs fits into a cache
    permuted          GNC's; reads the order (8 bytes) and the sign (4). A number once a step for
                      the order, whose sorting is not counted
    isotropic         GNC's; reads the draws' mean. Two numbers: all draws must be known for their
                      mean before the first is used, and keeping them would take GNC's memory again
    EigenNoise        moves, reads k vectors
    fresh             moves, reads the gradient found. The second gradient is not counted
    past              moves, reads the slot; gradient read and slot written: 5 + 1 + 2
    noise             moves; a number
    SAM               moves, reads the gradient; adds the workers' up, three a worker but the first
    m-SAM             moves, reads the gradient for its norm and once more
    AnnealedNoise     reads and writes, and draws a number, once a step
    small gradients   reads them for the bound, reads and writes them, once a step

Filter-wise methods move weights with filters only; what is remembered is of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import largebatch as lb
from largebatch.batching import discard_small_gradients, hard_examples, sharp_cross_entropy
from largebatch.contracts import GradientNoise

__all__ = ["COUNT", "EVERY", "WAYS", "Needs", "Way"]

COUNT = 16  # workers, of which SAM's mean and what is drawn once a step take shares
EVERY = 10  # steps from one refresh to the next
K = 5  # eigenvectors


@dataclass(frozen=True)
class Needs:
    """Passes over the bytes of weights, and numbers for each of their coordinates."""

    passes: float = 0.0
    numbers: float = 0.0
    of: Literal["filters", "all"] = "all"
    once_a_step: bool = False


@dataclass(frozen=True)
class Way:
    """A method by the name that its page gives it; `after` runs between combine and step."""

    name: str
    perturb: lb.Perturbation | None = None
    noise: GradientNoise | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    after: Callable[[nn.Module], object] = lambda model: None
    needs: tuple[Needs, ...] = ()

    @property
    def page(self) -> str:
        """Where its row is."""
        return "noise-and-loss" if self.perturb is None else "perturbations"


def hardest(scores: Tensor, y: Tensor) -> Tensor:
    return hard_examples(cross_entropy(scores, y, reduction="none"), discard=0.3)


def without_small(model: nn.Module) -> None:
    discard_small_gradients(model.parameters(), keep=0.7)


def annealed(placement: Literal["gradient", "weights"]) -> Way:
    noise = lb.AnnealedNoise(eta=WIDTH, placement=placement)
    name = "AnnealedNoise(eta)" if placement == "gradient" else "AnnealedNoise(eta, *, placement)"
    return Way(name.replace("*, placement", f'placement="{placement}"'), None, noise, needs=FADING)


WIDTH = 1e-4  # the weights shall stay about where they are
GNC_LIKE = (Needs(6, of="filters"), Needs(4))
GNC_PLAIN = (Needs(10),)
PERMUTED = (Needs(3, of="filters"), Needs(0, 1, "filters", once_a_step=True))
ISOTROPIC = (Needs(1, 2, "filters"),)
FADING = (Needs(2, 1, once_a_step=True),)
OURS = Way("Workers")  # what all are beside: Workers without any of them
WAYS = (
    Way("GNC(alpha)", lb.GNC(0.1), needs=GNC_LIKE),
    Way('GNC(alpha, scaling="plain")', lb.GNC(0.1, "plain"), needs=GNC_PLAIN),
    Way("RNC(alpha)", lb.RNC(0.1), needs=(Needs(5, 1, "filters"),)),
    Way('RNC(alpha, scaling="plain")', lb.RNC(WIDTH, "plain"), needs=(Needs(5, 1),)),
    Way("MatchedNoise(alpha)", lb.MatchedNoise(0.1), needs=GNC_LIKE + PERMUTED),
    Way(
        'MatchedNoise(alpha, kind="isotropic")',
        lb.MatchedNoise(0.1, "isotropic"),
        needs=GNC_LIKE + ISOTROPIC,
    ),
    Way("EigenNoise(rho, k)", lb.EigenNoise(WIDTH, K), needs=(Needs(5 + K),)),
    Way("Extrapolation(inner_lr)", lb.Extrapolation(WIDTH), needs=(Needs(6),)),
    Way(
        'Extrapolation(inner_lr, kind="past")',
        lb.Extrapolation(WIDTH, "past"),
        needs=(Needs(8),),
    ),
    Way(
        'Extrapolation(inner_lr, kind="noise")',
        lb.Extrapolation(WIDTH, "noise"),
        needs=(Needs(5, 1),),
    ),
    Way("SAM(rho)", lb.SAM(WIDTH), needs=(Needs(6 + 3 * (COUNT - 1) / COUNT),)),
    Way("SAM(rho, per_worker=True)", lb.SAM(WIDTH, per_worker=True), needs=(Needs(7),)),
    Way(
        "Switch(first, then, at_step)",
        lb.Switch(lb.GNC(0.1), lb.RNC(0.1), at_step=2**31),  # before it, with GNC in force
        needs=GNC_LIKE,
    ),
    annealed("gradient"),
    annealed("weights"),
    Way("hard_examples(losses)", loss=hardest),
    Way(
        "discard_small_gradients(parameters)",
        after=without_small,
        needs=(Needs(3, once_a_step=True),),
    ),
    Way("sharp_cross_entropy(logits, targets)", loss=sharp_cross_entropy),
)
