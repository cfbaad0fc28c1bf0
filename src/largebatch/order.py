"""In which order the passes of a step come: who runs, and whether it counts.

one pass                  1, 2, ..., M
two, scope "worker"       1 looks, 1, 2 looks, 2, ..., M looks, M
two, scope "batch"        1 looks, 2 looks, ..., M looks, 1, 2, ..., M
"""

from __future__ import annotations

from dataclasses import dataclass

from .contracts import Perturbation, Scope

__all__ = ["Order", "order_of"]


@dataclass(frozen=True)
class Order:
    """The passes of a step on this process.

    Attributes:
        count: local workers.
        passes: of each worker.
        scope: what the first of two passes is about.

    Example:
        >>> order = Order(2, 2, "worker")
        >>> [order.at(i) for i in range(order.length)]
        [(0, False), (0, True), (1, False), (1, True)]
    """

    count: int
    passes: int = 1
    scope: Scope = "worker"

    @property
    def length(self) -> int:
        """How many passes a whole step has."""
        return self.count * self.passes

    def at(self, place: int) -> tuple[int, bool]:
        """Which worker the pass number ``place`` is, and whether it counts."""
        if self.passes == 1:
            return place, True
        if self.scope == "worker":
            return place // 2, place % 2 == 1
        return place % self.count, place >= self.count


def order_of(perturb: Perturbation | None, step: int, count: int) -> Order:
    """The order that a perturbation asks for at a step."""
    if perturb is None:
        return Order(count)
    return Order(count, perturb.passes(step), perturb.scope(step))
