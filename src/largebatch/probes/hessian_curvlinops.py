r"""The Hessian by curvlinops and scipy: what the extra ``curvature`` brings.

Products are forward-over-reverse (curvlinops' HessianLinearOperator), eigenpairs those of ARPACK's
restarted Lanczos.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..curvature import Eigenpairs
from ..curvature.space import Space
from ..losses import one_number
from ..mesh import sharding
from ..seeding import kept_random_state
from .gradients import LossFn, chunks, trained
from .mean_hessian import Counted
from .untouched import untouched

__all__ = ["arpack_pairs", "curvlinops_hessian"]


@contextmanager
def curvlinops_hessian(
    model: nn.Module, loss_fn: LossFn, batch: Sequence[Any], chunk: int | None
) -> Iterator[Counted]:
    """Within, the product of :func:`~largebatch.probes.mean_hessian.mean_hessian`; as there."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"a chunk needs at least one example, got chunk={chunk}")
    curvlinops, parameters = _imported("curvlinops"), trained(model)
    if any(sharding(p) is not None for p in parameters):
        raise ValueError("backend='curvlinops' needs whole weights: use backend='torch'")
    pieces = list(chunks(batch, chunk))
    numbers = [(torch.tensor([j]), torch.tensor([j])) for j in range(len(pieces))]
    with untouched(model), _without_running(model), _script_still_used():
        operator = curvlinops.HessianLinearOperator(
            _Loss(model, loss_fn, pieces),
            _Sum(),
            parameters,
            numbers,
            check_deterministic=False,  # every product sees the same dropout
            num_data=1,
        )
        yield Counted(lambda vectors: operator @ list(vectors))


def arpack_pairs(
    product: Counted, parameters: Sequence[Tensor], k: int, tolerance: float, seed: int
) -> Eigenpairs:
    """The k of largest magnitude; all but the products in float64.

    Args:
        product: from vectors, a tensor of each parameter's shape, to the Hessian times them.
        parameters: shapes and dtypes of those.
        k: how many, fewer than elements.
        tolerance: of each eigenvalue, relative; how far they are off is said in the residuals.
        seed: of the first vector.
    """
    numpy, linalg = _imported("numpy"), _imported("scipy.sparse.linalg")
    space, size = Space(parameters), sum(p.numel() for p in parameters)
    if not 1 <= k < size:
        raise ValueError(
            f"backend='curvlinops' needs 1 <= k < parameters, got k={k} of {size}: use "
            "backend='torch'"
        )

    def moved(vector: Any) -> Any:
        like = torch.from_numpy(vector.reshape(-1)).to(parameters[0].device)
        return space.flat(product(space.uncut(like))).to("cpu", torch.float64).numpy()

    matrix = linalg.LinearOperator((size, size), matvec=moved, dtype=numpy.float64)
    start = numpy.random.default_rng(seed).standard_normal(size)
    values, vectors = linalg.eigsh(matrix, k, which="LM", v0=start, tol=tolerance)
    order = abs(values).argsort()[::-1]
    values, vectors = values[order], vectors.T[order]
    off = [float(numpy.linalg.norm(moved(v) - a * v)) for a, v in zip(values, vectors, strict=True)]
    like = space.flat(parameters)
    rows = torch.tensor(vectors).to(like)
    return Eigenpairs(torch.tensor(values).to(like), space.cut(rows), torch.tensor(off).to(like))


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
        with kept_random_state(self.model.parameters()):  # every product sees the same dropout
            loss = one_number(self._fn(*piece))
        return loss * (len(piece[0]) / self._length)


class _Sum(nn.Module):
    """The loss is the module's output; curvlinops reads how pieces add up."""

    reduction = "sum"

    def forward(self, output: Tensor, number: Tensor) -> Tensor:
        return output


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
