r"""The mean norm of the workers' own gradients, parameter by parameter.

    n = sum_i weight_i * ||g_i|| / sum_i weight_i

Of each gradient only its norm is kept, so that nothing grows with the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..measure import norms
from ..mesh import local, sharding

__all__ = ["Heard"]


class Heard:
    """What was seen of the gradients of one step's workers.

    Example:
        >>> weight, heard = torch.zeros(2), Heard()
        >>> for i, g in enumerate([torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0])]):
        ...     heard.saw(i, [weight], [g], factor=1.0, weight=1.0)
        >>> [(_, mean)] = heard.means()
        >>> mean
        tensor(3.)
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._sums: dict[tuple[int, ...], tuple[list[Tensor], Tensor]] = {}
        self._weights: dict[int, float | Tensor] = {}

    @torch.no_grad()
    def saw(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """Add the norms of ``factor`` times a worker's gradients; None stands for zero."""
        self._weights[worker] = weight
        for some, vector in _by_kind(parameters, gradients):
            key = tuple(id(p) for p in some)
            known = self._sums.get(key, (some, torch.zeros_like(vector)))[1]
            self._sums[key] = some, known + vector * factor * weight

    def pooled(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """What was seen, put into one vector to be added up over processes, in place.

        The sums of these parameters, whether seen or not, and then that of the weights: the same
        on every process.
        """
        known = {id(p): mean for p, mean in self._totals()}
        where = parameters[0].device
        zero = torch.zeros((), dtype=torch.float64, device=where)
        total = zero + sum(self._weights.values())
        sums = [known[id(p)].to(zero) if id(p) in known else zero for p in parameters]
        vector = torch.stack([*sums, total])
        self._sums = {tuple(id(p) for p in parameters): (list(parameters), vector[:-1])}
        self._weights = {0: vector[-1]}
        return [vector]

    def means(self) -> list[tuple[Tensor, Tensor]]:
        """Each parameter with the mean over the workers, 0-dim; nothing is seen any more then."""
        total = sum(self._weights.values())
        means = [(parameter, each / total) for parameter, each in self._totals()]
        self._sums, self._weights = {}, {}
        return means

    def _totals(self) -> list[tuple[Tensor, Tensor]]:
        """Each parameter that was seen with the sum over the workers, 0-dim."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for parameters, vector in self._sums.values():
            for parameter, each in zip(parameters, vector.unbind(), strict=True):
                known = found.get(id(parameter))
                found[id(parameter)] = (parameter, each if known is None else known[1] + each)
        return list(found.values())


def _by_kind(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Parameters of one kind with the norms of their gradients in one vector."""
    kinds: dict[object, list[tuple[Tensor, Tensor]]] = {}
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.layout == torch.strided:  # the step refuses others
            # Workers hands over pieces, whose parameter says what they are pieces of.
            kind = (gradient.device, gradient.dtype, sharding(parameter))
            kinds.setdefault(kind, []).append((parameter, gradient))
    for pairs in kinds.values():
        where = sharding(pairs[0][0])
        vector = norms([local(gradient) for _, gradient in pairs])
        if where is not None:
            vector = where.total(vector.square()).sqrt()
        yield [parameter for parameter, _ in pairs], vector
