r"""Smoothness along the path of training, and relaxed smoothness from it.

    L_t = ||grad F(w_{t+1}) - grad F(w_t)|| / ||w_{t+1} - w_t||
    L_t <= L + lambda*||grad F(w_t)||        for all t

F: the mean loss of one fixed batch; w_t: weights before step t. L_t is a lower bound of the
smoothness constant. The fit is the least upper line: of all lines above every point, with L and
lambda not negative, the one that is least above them in sum. One outlier moves it, as one violates
the inequality.
Source: Zhao et al. (SNGM, 2024), smoothness and (L, lambda)-smoothness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..layout import layouts_of
from ..whole import check_whole
from .attached import Attached, attached
from .gradients import LossFn, gradient, layers, trained
from .untouched import untouched

__all__ = ["PathSmoothness", "PathSmoothnessResult", "RelaxedSmoothness", "relaxed_smoothness"]


@dataclass(frozen=True)
class PathSmoothnessResult:
    """Of the last measured step.

    Attributes:
        smoothness: L_t; NaN where the weights have not moved.
        gradient_norm: ||grad F(w_t)||, before the step.
        distance: ||w_{t+1} - w_t||.
    """

    smoothness: float
    gradient_norm: float
    distance: float


class PathSmoothness:
    """Measures L_t around optimizer steps: ``PathSmoothness(model, loss_fn, batch).attach(...)``.

    A measured step costs two gradients of the batch and holds a copy of weights and gradient. By
    hand, :meth:`before` and :meth:`after` around whatever moves the weights do the same.

    Args:
        model: in training; its mode is kept, so that dropout and batch norm act as they do. Of
            replicas the module itself, not the DistributedDataParallel around it.
        loss_fn: mean loss of a batch, ``loss_fn(*batch)``.
        batch: the fixed batch.
        every: measure every so many steps only.
        chunk: examples of a forward pass.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x = torch.ones(1, 1)
        >>> probe = PathSmoothness(model, lambda x: 3 * model(x).square().mean(), (x,))
        >>> handle = probe.attach(optimizer)
        >>> model(x).sum().backward()
        >>> optimizer.step()
        >>> round(probe.result().smoothness, 4)
        6.0
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        batch: Sequence[Any],
        *,
        every: int = 1,
        chunk: int | None = None,
    ) -> None:
        """Start with nothing measured."""
        self._model, self._loss_fn, self._batch, self._chunk = model, loss_fn, batch, chunk
        self._every = check_whole("every", every)
        self._optimizers: tuple[Optimizer, ...] = ()
        self._stepped: set[Optimizer] = set()
        self._steps = 0
        self._looks = 0
        self._start: tuple[list[Tensor], list[Tensor]] | None = None
        self._found: tuple[Tensor, Tensor, Tensor] | None = None

    def attach(self, *optimizers: Optimizer) -> Attached:
        """Measure from now on; a step is over when each optimizer has stepped."""
        handle = attached(optimizers, self._ahead, self._behind)
        self._optimizers = optimizers
        return handle

    def _ahead(self, optimizer: Optimizer) -> None:
        if not self._stepped or optimizer in self._stepped:
            self._stepped = set()
            if self._steps % self._every == 0:
                self.before()
            self._steps += 1
        self._stepped.add(optimizer)

    def _behind(self, optimizer: Optimizer) -> None:
        if len(self._stepped) == len(self._optimizers):
            self._stepped = set()
            if self._start is not None:
                self.after()

    def before(self) -> None:
        """Take weights and gradient where the step starts. TypeError for weights in pieces."""
        weights = trained(self._model)
        for name, layout in zip(layers(self._model), layouts_of(weights), strict=True):
            if layout.sharding is not None:
                raise TypeError(
                    f"PathSmoothness needs whole parameters, but {name!r} is cut over processes: "
                    "measure where they are not, at checkpoints for example"
                )
        self._start = [w.detach().clone() for w in weights], self._gradient()

    def after(self) -> None:
        """Compare with what they are now.

        Raises:
            RuntimeError: without :meth:`before`.
        """
        if self._start is None:
            raise RuntimeError("after() needs what before() takes: call that ahead of the step")
        (weights, first), self._start = self._start, None
        now = trained(self._model)
        if len(now) != len(weights):
            raise RuntimeError(
                f"{len(weights)} parameters were in training before the step, {len(now)} after: "
                "thaw and freeze between steps"
            )
        moved = [p.detach() - w for p, w in zip(now, weights, strict=True)]
        changed = [b - a for a, b in zip(first, self._gradient(), strict=True)]
        self._found = _norm(first), _norm(changed), _norm(moved)

    def _gradient(self) -> list[Tensor]:
        # Before and after with the same dropout: its change is not the loss's.
        with untouched(self._model, seed=self._looks // 2):
            self._looks += 1
            return gradient(self._model, self._loss_fn, self._batch, chunk=self._chunk)

    def result(self) -> PathSmoothnessResult:
        """The last measured step's; read on the host.

        Raises:
            RuntimeError: no step was measured yet.
        """
        if self._found is None:
            raise RuntimeError(
                "PathSmoothness has measured no step yet: probe.attach(optimizer), then step it"
            )
        norm, changed, distance = (float(each) for each in self._found)
        return PathSmoothnessResult(changed / distance if distance else math.nan, norm, distance)


@torch.no_grad()
def _norm(tensors: Sequence[Tensor]) -> Tensor:
    norms = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in tensors]
    length: Tensor = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
    return length


@dataclass(frozen=True)
class RelaxedSmoothness:
    """The least line above a path's points.

    Attributes:
        smoothness: L, at least 0.
        growth: lambda, at least 0.
        mean_excess: how far the line is above the points on average.
        points: how many there were.
    """

    smoothness: float
    growth: float
    mean_excess: float
    points: int


def relaxed_smoothness(
    smoothness: Sequence[float], gradient_norms: Sequence[float]
) -> RelaxedSmoothness:
    """Fit L + lambda*||grad F|| above the L_t of a run; points that are not finite are left out.

    Raises:
        ValueError: lists that differ in length, or without two points.

    Example:
        >>> fit = relaxed_smoothness([1.0, 1.2, 2.0], [0.0, 1.0, 2.0])
        >>> fit.smoothness, fit.growth
        (1.0, 0.5)
    """
    if len(smoothness) != len(gradient_norms):
        raise ValueError(
            f"a gradient norm is needed for each smoothness, got {len(smoothness)} and "
            f"{len(gradient_norms)}"
        )
    pairs = zip(gradient_norms, smoothness, strict=True)
    points = sorted((x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y))
    if len(points) < 2:
        raise ValueError(f"a line needs two finite points, got {len(points)}: record more steps")
    level, slope = _least_above(points)
    excess = math.fsum(level + slope * x - y for x, y in points) / len(points)
    return RelaxedSmoothness(level, slope, excess, len(points))


def _least_above(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Level and slope: of the upper hull's edge over the mean, as long as both are allowed."""
    middle = math.fsum(x for x, _ in points) / len(points)
    hull = _upper_hull(points)
    edges = pairwise(hull)
    (x, y), (x1, y1) = next(
        ((a, b) for a, b in edges if a[0] <= middle <= b[0]), (hull[-1], hull[-1])
    )
    slope = (y1 - y) / (x1 - x) if x1 > x else 0.0
    if slope <= 0:
        return max(y for _, y in points), 0.0
    level = y - slope * x
    if level < 0:  # all of a positive slope through 0
        return 0.0, max(y / x for x, y in points if x > 0)
    return level, slope


def _upper_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """From left to right, turning right only; the highest of those above one another."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while hull and hull[-1][0] == x:
            hull.pop()
        while len(hull) > 1 and _left(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _left(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0])
