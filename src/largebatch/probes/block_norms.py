r"""How a gradient's length is shared by its blocks.

    ratio = ||g|| / sum_s ||g^(s)||            supremum = its largest over steps, SNGM's p(S)
    cosine = cos(g, h) = sum_s ||g^(s)|| / (sqrt(S')*||g||)        h^(s) = g^(s)/||g^(s)||

g: the combined gradient, cut into S blocks g^(s) (one parameter each, or as told); S': blocks whose
gradient is not zero, S as a rule. The ratio lies in [1/sqrt(S), 1]: least where all blocks are
alike, 1 where one has all. In the bounds of block-wise SNGM p(S) is of the full gradient, of which
a batch's is an estimate.
Source: Zhao et al. (SNGM, 2024), Section 6 and Theorem 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layout import layouts_of, totals
from ..whole import check_whole
from .squares import squares

__all__ = ["BlockNorms", "BlockNormsResult"]


@dataclass(frozen=True)
class BlockNormsResult:
    """The last measured step's; steps with a gradient of zero, or not finite, do not count.

    Attributes:
        ratio: ||g|| / sum_s ||g^(s)||.
        supremum: the largest ratio so far.
        cosine: between g and the gradient whose blocks have length 1.
        blocks: S, how many blocks there are.
        steps: how many steps have counted.
    """

    ratio: float
    supremum: float
    cosine: float
    blocks: int
    steps: int


class BlockNorms:
    """Measures how evenly the blocks share the gradient: ``workers.listen(BlockNorms())``.

    It reads the combined gradient once, and nothing on the host before :meth:`result`.

    Args:
        block: the block of a parameter, by its name; each is its own unless given.
        every: measure every so many steps only.

    Example:
        >>> import largebatch as lb
        >>> model = torch.nn.Linear(4, 2)
        >>> workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), count=2)
        >>> probe = BlockNorms()
        >>> handle = workers.listen(probe)
        >>> _ = workers.backward(lambda x: model(x).square().mean(), torch.randn(8, 4))
        >>> found = probe.result()
        >>> found.blocks, 0.5**0.5 <= found.ratio <= 1
        (2, True)
    """

    def __init__(self, block: Callable[[str], str] = str, *, every: int = 1) -> None:
        """Start with nothing heard."""
        self._block = block
        self._every = check_whole("every", every)
        self._names: Sequence[str] = ()
        self._parameters: Sequence[Tensor] = ()
        self._measures = False
        self._found: Tensor | None = None  # ratio, cosine, supremum, steps

    def starts(self, step: int, names: Sequence[str], parameters: Sequence[Tensor]) -> None:
        """See :class:`~largebatch.contracts.Told`."""
        self._measures = step % self._every == 0 and bool(parameters)
        self._names, self._parameters = names, parameters

    def saw(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """One worker's alone says nothing here."""

    def forget(self) -> None:
        """Nothing was taken of the step's workers."""

    @torch.no_grad()
    def combined(self, gradients: Sequence[Tensor | None], *, factor: float | Tensor) -> None:
        """Measure the step's; see :class:`~largebatch.contracts.Listener`."""
        if not self._measures:
            return
        # The factor is the same for all, and nothing here has a unit.
        own = squares(gradients, self._parameters[0].device)
        layouts = layouts_of(self._parameters)
        whole = totals(layouts, list(own.unbind()))
        blocks: dict[str, Tensor] = {}
        for name, square in zip(self._names, whole, strict=True):
            key = self._block(name)
            blocks[key] = blocks[key] + square if key in blocks else square
        self._keep(torch.stack(list(blocks.values())))

    def _keep(self, each: Tensor) -> None:
        length, together = each.sum().sqrt(), each.sqrt().sum()
        ratio, cosine = length / together, together / (length * (each > 0).sum().sqrt())
        known = each.new_zeros(4) if self._found is None else self._found.to(each.device)
        later = torch.stack([ratio, cosine, torch.maximum(known[2], ratio), known[3] + 1])
        self._found = torch.where(torch.isfinite(ratio), later, known)

    def result(self) -> BlockNormsResult:
        """What was found up to now; read on the host.

        Raises:
            RuntimeError: no step has counted yet.
        """
        found = [0.0] * 4 if self._found is None else self._found.tolist()
        if not found[3]:
            raise RuntimeError(
                "BlockNorms has heard no step with a gradient that is finite and not zero: "
                "workers.listen(probe), then run a whole step"
            )
        ratio, cosine, supremum, steps = found
        blocks = len({self._block(name) for name in self._names})
        return BlockNormsResult(ratio, supremum, cosine, blocks, int(steps))
