"""Batches of one size as stretches of one walk over the data, known by the sum of gradients alone.

    g_b = (P(b*n + n) - P(b*n))/n            P(k): sum of the gradients of the first k examples

so that batches of every size come from one gradient of each example. Held are copies of P at the
beginnings of the present stretch and of the one before; sizes that begin one together share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["Stretches", "means", "walked"]

_ZERO = torch.tensor(0.0)


class Stretches:
    """What is known of the batches of n: ``count`` stretches, one behind the other.

    Args:
        n: examples of a batch.
        count: how many.
        tensors: how many a gradient has.
    """

    def __init__(self, n: int, count: int, tensors: int) -> None:
        """Know of none yet."""
        self.n, self.count = n, count
        self.start = self.before = [_ZERO] * tensors  # P at the present stretch, at the one before
        self.seen: list[Tensor] = []  # means of abs(g_b) and g_b^2 over each layer: (2, layers)

    @property
    def stops(self) -> set[int]:
        """After how many examples a stretch ends."""
        return {self.n * (k + 1) for k in range(self.count)}

    @property
    def followed(self) -> bool:
        """Whether there is another stretch after the present one."""
        return len(self.seen) + 1 < self.count

    def end(
        self, total: Sequence[Tensor], copy: list[Tensor], squares: Sequence[Tensor], pairs: int
    ) -> None:
        """The sum has reached a stretch's end; ``copy`` of it may be kept.

        To ``squares`` is added the share of one of ``pairs`` in an example's variance, by
        coordinate: of two batches without a common example n*(g_b - g_c)^2/2 has just that mean.
        """
        if self.seen:
            for square, p, start, before in zip(
                squares, total, self.start, self.before, strict=True
            ):
                apart = p - 2 * start + before  # n*(g_b - g_c)
                square.addcmul_(apart, apart, value=1 / (2 * self.n * pairs))
        followed = self.followed
        self.seen.append(
            means([(p - start) / self.n for p, start in zip(total, self.start, strict=True)])
        )
        self.before, self.start = (self.start, copy) if followed else ([], [])


def walked(
    place: int,
    total: Sequence[Tensor],
    sizes: Iterable[Stretches],
    squares: Sequence[Tensor],
    pairs: int,
) -> None:
    """The walk's sum ``total`` is that of the first ``place`` examples."""
    ended = [each for each in sizes if place in each.stops]
    keep = any(each.followed for each in ended)
    copy = [p.clone() for p in total] if keep else []
    for each in ended:
        each.end(total, copy, squares, pairs)


def means(gradients: Sequence[Tensor]) -> Tensor:
    """Means of abs(g) and g^2 over each layer: (2, layers), float64 on the CPU."""
    rows = [torch.stack([g.abs().mean(), g.square().mean()]) for g in gradients]
    return torch.stack([row.double().cpu() for row in rows], 1)
