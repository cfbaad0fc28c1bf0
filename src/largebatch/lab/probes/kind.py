"""What the lab knows of a probe."""

from __future__ import annotations

from dataclasses import dataclass

from .moment import Look

__all__ = ["ProbeKind"]


@dataclass(frozen=True)
class ProbeKind:
    """A probe that has a name.

    Attributes:
        name: as on the command line and in records.
        summary: one line.
        source: where it comes from.
        cost: of one look, in extra gradients or Hessian products; "none" for what is at hand.
        look: what it does around a step.
        least_workers: fewest workers of a step that it can look at.
        alone: whether it needs all of a step's workers in one process.
        one_pass: whether it needs to know before a step where each worker will look.
        each_loss: whether it needs the loss of each example.
    """

    name: str
    summary: str
    source: str
    cost: str
    look: Look
    least_workers: int = 1
    alone: bool = False
    one_pass: bool = False
    each_loss: bool = False
