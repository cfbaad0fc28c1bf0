r"""Exponential averages over steps, without bias at their start and without reading the host.

    sum <- d*sum + (1 - d)*x        weight <- d*weight + (1 - d)        mean = sum/weight

x: what a step has found, a tensor of any shape; d: decay. A step that does not count leaves all as
it was. The averages are worth ``weight^2 / sum of the steps' squared weights`` steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Averages"]


class Averages:
    """Averages of named tensors over the steps that count.

    Example:
        >>> averages = Averages(decay=0.5)
        >>> for x, counts in ((4.0, True), (torch.inf, False), (1.0, True)):
        ...     averages.add(torch.tensor(counts), {"x": torch.tensor(x)})
        >>> float(averages.mean("x")), averages.steps
        (2.0, 2)
    """

    def __init__(self, decay: float) -> None:
        """Start with nothing."""
        self.decay = decay
        # Two moments of the steps' weights, and how many steps have counted.
        self._weights: Tensor | None = None
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, counts: Tensor, values: Mapping[str, Tensor]) -> None:
        """Add a step's values, alike in names and shapes at every step.

        Args:
            counts: whether the step does, 0-dim bool; its values may then be anything.
            values: what it has found.
        """
        share = 1 - self.decay
        known = self._weights
        if known is None:
            known = torch.zeros(3, dtype=torch.float64, device=counts.device)
        first, second, steps = known.to(counts.device).unbind()
        later = (first * self.decay + share, second * self.decay**2 + share**2, steps + 1)
        self._weights = torch.where(counts, torch.stack(later), torch.stack((first, second, steps)))
        for name, value in values.items():
            before = self._sums.get(name)
            before = torch.zeros_like(value) if before is None else before.to(value.device)
            later_sum = before * self.decay + value * share
            self._sums[name] = torch.where(counts.to(value.device), later_sum, before)

    def mean(self, name: str) -> Tensor:
        """The average of one of them."""
        assert self._weights is not None
        sums = self._sums[name]
        return sums / self._weights[0].to(sums.device)

    @property
    def steps(self) -> int:
        """How many steps have counted; read on the host."""
        return 0 if self._weights is None else int(self._weights[2])

    @property
    def worth(self) -> float:
        """How many steps, weighed alike, would give as sharp a mean; read on the host."""
        assert self._weights is not None
        first, second, _ = self._weights.tolist()
        return float(first**2 / second)

    def state_dict(self) -> dict[str, Any]:
        """Tensors only."""
        return {"weights": self._weights, "sums": dict(self._sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._weights, self._sums = state["weights"], dict(state["sums"])
