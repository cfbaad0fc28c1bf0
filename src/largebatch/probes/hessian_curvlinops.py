r"""The Hessian by curvlinops and scipy: what the extra ``curvature`` brings.

Products are forward-over-reverse (curvlinops' HessianLinearOperator), eigenvalues those of ARPACK's
restarted Lanczos, trace and diagonal XTrace and XDiag of Epperly, Tropp, Webber (2024).
"""

from __future__ import annotations

import importlib
import math
import statistics
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import one_number
from ..mesh import sharding
from .gradients import LossFn, chunks, trained
from .untouched import untouched

__all__ = ["Found", "by_curvlinops", "mean_and_error"]

GROUPS = 4
"""Estimates of the trace, whose spread is its error."""


@dataclass(frozen=True)
class Found:
    """What either backend finds: eigenvalues, residuals, estimates of the trace, the diagonal."""

    values: list[float]
    residuals: list[float]
    traces: list[float]
    diagonal: list[float]
    products: int


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error; NaN of one value."""
    count = len(values)
    error = statistics.stdev(values) / math.sqrt(count) if count > 1 else math.nan
    return statistics.fmean(values), error


def by_curvlinops(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    k: int,
    tolerance: float,
    samples: int,
    chunk: int | None,
    seed: int,
) -> Found:
    """See :func:`largebatch.probes.hessian`."""
    curvlinops = _imported("curvlinops")
    parameters = trained(model)
    size = sum(p.numel() for p in parameters)
    each = samples // GROUPS // 2 * 2
    if not 1 <= k < size or not 2 <= each < size or samples // 2 * 2 >= size:
        raise ValueError(
            f"backend='curvlinops' needs 1 <= k < parameters and {2 * GROUPS} <= samples < "
            f"parameters, got k={k}, samples={samples}, {size} parameters: use backend='torch'"
        )
    if any(sharding(p) is not None for p in parameters):
        raise ValueError("backend='curvlinops' needs whole weights: use backend='torch'")
    with untouched(model), _without_running(model), _script_still_used():
        torch.manual_seed(seed)  # curvlinops draws from the global generator
        operator = _operator(curvlinops, model, loss_fn, list(chunks(batch, chunk)), parameters)
        values, residuals = _top(operator, k, tolerance, seed)
        traces = [float(curvlinops.xtrace(operator, each)) for _ in range(GROUPS)]
        diagonal = curvlinops.xdiag(operator, samples // 2 * 2)
    parts = diagonal.split([p.numel() for p in parameters])
    means = [float(part.abs().mean()) for part in parts]
    return Found(values, residuals, traces, means, operator.made)


@contextmanager
def _script_still_used() -> Iterator[None]:
    """What curvlinops imports, and torch's own forward mode, warn once of torch.jit.script."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit\.script", FutureWarning)
        warnings.filterwarnings("ignore", r".*torch\.jit\.script", DeprecationWarning)
        yield


def _imported(name: str) -> Any:
    try:
        with _script_still_used():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"backend='curvlinops' needs {error.name}: pip install 'largebatch[curvature]', or use "
            "backend='torch'",
            name=error.name,
        ) from error


class _Loss(nn.Module):
    """A piece's share of the mean loss as a module's output, named by the piece's number."""

    def __init__(self, model: nn.Module, fn: LossFn, pieces: Sequence[tuple[Any, ...]]) -> None:
        super().__init__()
        self.model = model
        self._fn, self._pieces = fn, pieces
        self._length = sum(len(piece[0]) for piece in pieces)

    def forward(self, number: Tensor) -> Tensor:
        piece = self._pieces[int(number)]
        # Every product sees the same dropout.
        device = next(self.model.parameters()).device
        gpus = [] if device.type == "cpu" else [device.index or 0]
        kind = "cuda" if device.type == "cpu" else device.type
        with torch.random.fork_rng(gpus, device_type=kind):
            loss = one_number(self._fn(*piece))
        return loss * (len(piece[0]) / self._length)


class _Sum(nn.Module):
    """The loss is the module's output; curvlinops reads how pieces add up."""

    reduction = "sum"

    def forward(self, output: Tensor, number: Tensor) -> Tensor:
        return output


def _operator(
    curvlinops: Any,
    model: nn.Module,
    fn: LossFn,
    pieces: list[tuple[Any, ...]],
    parameters: list[Tensor],
) -> Any:
    """The Hessian as curvlinops has it, which counts its products in ``made``."""
    numbers = [(torch.tensor([j]), torch.tensor([j])) for j in range(len(pieces))]

    class Operator(curvlinops.HessianLinearOperator):  # type: ignore[misc]
        made = 0

        def _matmat(self, matrix: list[Tensor]) -> list[Tensor]:
            self.made += matrix[0].shape[-1]
            found: list[Tensor] = super()._matmat(matrix)
            return found

    return Operator(
        _Loss(model, fn, pieces), _Sum(), parameters, numbers, check_deterministic=False, num_data=1
    )


def _top(operator: Any, k: int, tolerance: float, seed: int) -> tuple[list[float], list[float]]:
    """Eigenvalues by falling magnitude, and their residuals; all but products in float64."""
    numpy, linalg = _imported("numpy"), _imported("scipy.sparse.linalg")
    matrix = operator.to_scipy(numpy.float64)
    start = numpy.random.default_rng(seed).standard_normal(matrix.shape[0])
    # ARPACK's own tolerance is relative to each eigenvalue; residuals are said beside.
    values, vectors = linalg.eigsh(matrix, k, which="LM", v0=start, tol=tolerance)
    order = abs(values).argsort()[::-1]
    values, vectors = values[order], vectors[:, order]
    residuals = numpy.linalg.norm(matrix @ vectors - vectors * values, axis=0)
    return values.tolist(), residuals.tolist()


@contextmanager
def _without_running(model: nn.Module) -> Iterator[None]:
    """Batch norm in training mode takes the batch's statistics and keeps none.

    Those it would keep in place, which torch.func forbids; its output is the same without.
    """
    norms = [
        m
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training and m.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
