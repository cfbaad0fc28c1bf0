r"""Products with the Hessian of a batch's mean loss, a chunk of the batch at a time.

H v = sum_c b_c H_c v / sum_c b_c        c: chunks of the batch, of b_c examples each
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..curvature import Method, Product, hessian_products
from ..curvature.passes import full_precision
from .gradients import LossFn, chunks, trained
from .untouched import untouched

__all__ = ["Counted", "mean_hessian"]


class Counted:
    """A product that counts how often it is made."""

    def __init__(self, product: Product) -> None:
        """None yet."""
        self.made = 0
        self._product = product

    def __call__(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """One more."""
        self.made += 1
        return self._product(vectors)


@contextmanager
def mean_hessian(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    chunk: int | None,
    method: Method,
    process_group: torch.distributed.ProcessGroup | None,
) -> Iterator[Counted]:
    """Within, the function from v to H v over the parameters in training; after, all as it was.

    Of one chunk the graph is kept, so that a product is a backward pass; of several only the one
    whose turn it is.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"a chunk needs at least one example, got chunk={chunk}")
    with untouched(model):
        parameters = trained(model)
        pieces = list(chunks(batch, chunk))
        with full_precision(loss_fn, parameters[0].device) as fn:

            def of(piece: tuple[Any, ...]) -> Product:
                return hessian_products(
                    partial(fn, *piece), parameters, method=method, process_group=process_group
                )

            def product(vectors: Sequence[Tensor]) -> list[Tensor]:
                total = [torch.zeros_like(p, requires_grad=False) for p in parameters]
                for piece in pieces:
                    for sum_, row in zip(total, of(piece)(vectors), strict=True):
                        sum_.add_(row, alpha=len(piece[0]) / len(batch[0]))
                return total

            yield Counted(of(pieces[0]) if len(pieces) == 1 else product)
