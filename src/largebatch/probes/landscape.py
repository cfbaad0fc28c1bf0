r"""The loss along a line, and on a plane, through the present weights.

    line:   L(w + a d)            plane:  L(w + a d_1 + b d_2)
    d^(p) = n^(p) ||w^(p)|| / ||n^(p)||      n normal, p a filter; 0 for biases and batch norm

L: mean loss of the batch; w: the weights in training; a, b: positions, so that at 1 each filter has
moved by its own length. Directions may be given instead: from one checkpoint to another, 0 is the
first and 1 the second.
Source: Li et al. (2018), "Visualizing the loss landscape of neural nets", Section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..filters import filter_norms
from ..mesh import sharding
from ..seeding import kept_random_state, normal
from .gradients import LossFn, mean_loss, trained
from .untouched import untouched

__all__ = ["LossLine", "LossPlane", "filter_normalized", "loss_line", "loss_plane"]

# Keeps these draws apart from others that are named by as many integers.
_DIRECTION = 0x4C44
_LINE = tuple(j / 10 for j in range(-10, 11))
_PLANE = tuple(j / 5 for j in range(-5, 6))


@dataclass(frozen=True)
class LossLine:
    """The loss along a line.

    Attributes:
        positions: a.
        losses: at each; NaN or infinite where it is.
    """

    positions: list[float]
    losses: list[float]


@dataclass(frozen=True)
class LossPlane:
    """The loss on a plane.

    Attributes:
        positions_a: along the first direction.
        positions_b: along the second.
        losses: ``losses[i][j]`` at positions_a[i], positions_b[j].
    """

    positions_a: list[float]
    positions_b: list[float]
    losses: list[list[float]]


def loss_line(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    positions: Sequence[float] = _LINE,
    direction: Sequence[Tensor] | int = 0,
    seed: int = 0,
    chunk: int | None = None,
) -> LossLine:
    """Evaluate the loss along a line.

    Costs a forward pass over the batch for each position, no gradient; one copy of the weights and
    one direction. All positions see the same dropout; batch norm goes by the model's modes.

    Args:
        model: whose parameters in training move; of DistributedDataParallel the module inside.
        loss_fn: see :data:`~largebatch.probes.LossFn`.
        batch: what it is called with.
        positions: where, in lengths of the direction.
        direction: a tensor for each parameter in training; or the number of a random one.
        seed: with that number names a filter-normalized direction.
        chunk: examples of a forward pass; None for all at once.

    Raises:
        ValueError: no positions, or not finite; a direction of other shapes.
        TypeError: weights that FSDP2 has cut.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> start = model.weight.detach().clone()
        >>> line = loss_line(
        ...     model, lambda x: (model(x) - 4).square().mean(), (torch.ones(1, 1),),
        ...     positions=[0.0, 1.0], direction=[4 - start],
        ... )
        >>> [round(each, 3) for each in line.losses][1], bool(model.weight == start)
        (0.0, True)
    """
    with _moving(model, loss_fn, batch, chunk) as loss_at:
        along = _direction(model, direction, seed)
        places = _checked(positions)
        return LossLine(places, [loss_at([(a, along)]) for a in places])


def loss_plane(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    positions_a: Sequence[float] = _PLANE,
    positions_b: Sequence[float] = _PLANE,
    directions: tuple[Sequence[Tensor] | int, Sequence[Tensor] | int] = (0, 1),
    seed: int = 0,
    chunk: int | None = None,
) -> LossPlane:
    """Evaluate the loss on a plane, at all pairs of positions; otherwise as :func:`loss_line`.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> plane = loss_plane(
        ...     model, lambda x: model(x).mean(), (torch.ones(1, 1),), positions_a=[0.0, 1.0],
        ...     positions_b=[0.0], directions=([torch.ones(1, 1), torch.zeros(1)], 0),
        ... )
        >>> [[round(b - plane.losses[0][0], 3) for b in a] for a in plane.losses]
        [[0.0], [1.0]]
    """
    with _moving(model, loss_fn, batch, chunk) as loss_at:
        one, other = (_direction(model, each, seed) for each in directions)
        first, second = _checked(positions_a), _checked(positions_b)
        losses = [[loss_at([(a, one), (b, other)]) for b in second] for a in first]
        return LossPlane(first, second, losses)


def filter_normalized(weights: Sequence[Tensor], *names: int) -> list[Tensor]:
    """A random direction whose filters are as long as the weights'; zero where there are none.

    Named by the integers, and drawn from a generator of its own.

    Example:
        >>> weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> [direction, bias] = filter_normalized([weight, torch.ones(2)], 0)
        >>> [round(each, 3) for each in direction.norm(dim=1).tolist()], bias.tolist()
        ([5.0, 0.0], [0.0, 0.0])
    """
    found = [normal(w, _DIRECTION, *names, j) for j, w in enumerate(weights)]
    lengths, drawn = filter_norms(weights), filter_norms(found)
    return [
        torch.zeros_like(d) if wanted is None or given is None else d * (wanted / given)
        for d, wanted, given in zip(found, lengths, drawn, strict=True)
    ]


def _checked(positions: Sequence[float]) -> list[float]:
    found = [float(each) for each in positions]
    if not found or not all(math.isfinite(each) for each in found):
        raise ValueError(f"a line needs one or more finite positions, got {found}")
    return found


@torch.no_grad()
def _direction(model: nn.Module, given: Sequence[Tensor] | int, seed: int) -> list[Tensor]:
    weights = [p.detach() for p in trained(model)]
    if isinstance(given, int):
        return filter_normalized(weights, seed, given)
    needed, shapes = ([tuple(t.shape) for t in each] for each in (weights, given))
    if needed != shapes:
        raise ValueError(
            f"a direction needs a tensor for each parameter in training, of shapes {needed}, got "
            f"{shapes}"
        )
    return [d.to(w) for d, w in zip(given, weights, strict=True)]


class _LossAt:
    """The loss at the weights and so much of each direction."""

    def __init__(
        self, weights: Sequence[Tensor], loss_fn: LossFn, batch: Sequence[Any], chunk: int | None
    ) -> None:
        self._weights = [w.detach() for w in weights]
        self._start = [w.clone() for w in self._weights]
        self._loss_fn, self._batch, self._chunk = loss_fn, batch, chunk

    @torch.no_grad()
    def __call__(self, steps: Sequence[tuple[float, Sequence[Tensor]]]) -> float:
        self.move(steps)
        with kept_random_state(self._weights):
            return mean_loss(self._loss_fn, self._batch, chunk=self._chunk)

    @torch.no_grad()
    def move(self, steps: Sequence[tuple[float, Sequence[Tensor]]]) -> None:
        """Have the weights there; without a step, bit for bit where they were."""
        torch._foreach_copy_(self._weights, self._start)
        for length, direction in steps:
            torch._foreach_add_(self._weights, list(direction), alpha=length)
        torch.clear_autocast_cache()  # its cast weights are those of before the move


@contextmanager
def _moving(
    model: nn.Module, loss_fn: LossFn, batch: Sequence[Any], chunk: int | None
) -> Iterator[_LossAt]:
    """Within, weights may be anywhere; after, all is as it was."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"a chunk needs at least one example, got chunk={chunk}")
    weights = trained(model)
    if any(sharding(w) is not None for w in weights):
        raise TypeError(
            "a line through the weights needs them whole, but FSDP2 has cut them: load the "
            "checkpoint into the model before fully_shard"
        )
    with untouched(model):
        loss_at = _LossAt(weights, loss_fn, batch, chunk)
        try:
            yield loss_at
        finally:
            loss_at.move([])
