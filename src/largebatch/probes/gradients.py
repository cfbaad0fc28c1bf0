r"""A loss's gradient at the present weights, of a batch of any size, without ``.grad``.

    g = sum_c b_c g_c / sum_c b_c        c: chunks of the batch, of b_c examples each

A whole data set is one batch too: only one chunk's activations are held at a time. Batch norm in
training mode sees a chunk at a time, so that g then depends on how long chunks are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import one_number

__all__ = ["LossFn", "chunks", "gradient", "layers", "loss_and_gradient", "mean_loss", "trained"]

LossFn = Callable[..., Tensor]
"""The mean loss of a batch's examples, at the model's present weights: ``loss_fn(*batch)``."""


def trained(model: nn.Module) -> list[Tensor]:
    """The parameters in training, in the model's order.

    Raises:
        ValueError: there are none.
    """
    found: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not found:
        raise ValueError("a probe needs parameters in training, but the model has none: thaw some")
    return found


def layers(model: nn.Module) -> list[str]:
    """The names of the parameters in training, in the order of ``trained``."""
    return [name for name, p in model.named_parameters() if p.requires_grad]


def chunks(
    batch: Sequence[Any], size: int | None, rows: Tensor | None = None
) -> Iterator[tuple[Any, ...]]:
    """A batch in pieces of at most ``size`` examples; whole without.

    Args:
        batch: tensors with the example in dimension 0.
        size: examples of a piece; None for all.
        rows: numbers of the examples to take, in this order; all without. Only a piece of them is
            copied at a time.

    Raises:
        ValueError: ``size`` below 1.
    """
    if size is not None and size < 1:
        raise ValueError(f"chunk must be a number of examples from 1, or None, got {size}")
    length = len(batch[0]) if rows is None else len(rows)
    if not length:
        raise ValueError("a probe needs a batch of at least one example, got none")
    for start in range(0, length, size or length):
        stop = start + (size or length)
        if rows is None:
            yield tuple(each[start:stop] for each in batch)
        else:
            yield tuple(each[rows[start:stop].to(each.device)] for each in batch)


def gradient(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    chunk: int | None = None,
    rows: Tensor | None = None,
) -> list[Tensor]:
    """The gradient of the mean loss, one tensor for each in training; zero where unreached.

    Call it within :func:`~largebatch.probes.untouched`: a forward pass may leave traces.

    Args:
        model: whose parameters.
        loss_fn: see :data:`LossFn`.
        batch: what it is called with.
        chunk: examples of a forward pass; None for all at once.
        rows: the examples of the batch to take; None for all.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[1.0], [2.0], [6.0]])
        >>> gradient(model, lambda x: model(x).mean(), (x,), chunk=2)
        [tensor([[3.]])]
    """
    return loss_and_gradient(model, loss_fn, batch, chunk=chunk, rows=rows)[1]


def loss_and_gradient(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    chunk: int | None = None,
    rows: Tensor | None = None,
) -> tuple[float, list[Tensor]]:
    """The mean loss and its gradient, as :func:`gradient`."""
    parameters = trained(model)
    mean, total = 0.0, [torch.zeros_like(p, requires_grad=False) for p in parameters]
    length = len(batch[0]) if rows is None else len(rows)
    for piece in chunks(batch, chunk, rows):
        share = len(piece[0]) / length
        loss = one_number(loss_fn(*piece))
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        mean += share * float(loss.detach())
        for sum_, each in zip(total, found, strict=True):
            if each is not None:
                sum_.add_(each, alpha=share)
    return mean, total


@torch.no_grad()
def mean_loss(loss_fn: LossFn, batch: Sequence[Any], *, chunk: int | None = None) -> float:
    """The mean loss of a batch of any size, without a graph.

    Example:
        >>> mean_loss(lambda x: x.mean(), (torch.tensor([1.0, 2.0, 6.0]),), chunk=2)
        3.0
    """
    pieces = chunks(batch, chunk)
    return sum(
        len(piece[0]) / len(batch[0]) * float(one_number(loss_fn(*piece))) for piece in pieces
    )
