r"""How much the loss bends: its Hessian's top eigenvalues, trace and diagonal.

    H v = theta v                            the k largest in magnitude
    tr H = sum theta_j + E[z' P H P z],      P = 1 - sum v_j v_j'
    diag H = sum theta_j v_j^2 + E[z * (H z - sum theta_j v_j (v_j . z))]

H: over all parameters in training; v_j: unit vectors; z_i = -1 or 1 with equal chance, drawn
``samples`` times. What the eigenpairs explain is known without error, also where they have not
converged (theta_j = v_j' H v_j), so that chance enters with the rest of the spectrum only.
Source: Lanczos (1950); Hutchinson (1990); taking the top out as in Meyer et al., "Hutch++" (2021).

The mean of an estimate's magnitude lies above the magnitude's mean, by less the more samples:
``diagonal_mean_magnitude`` too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..curvature import Eigenpairs, Method, Product, eigenpairs_of, rademacher
from ..curvature.space import Space
from .gradients import LossFn, layers, trained
from .hessian_curvlinops import arpack_pairs, curvlinops_hessian
from .mean_hessian import mean_hessian

__all__ = ["Backend", "Hessian", "eigenpairs", "hessian"]

Backend = Literal["torch", "curvlinops"]

# Keeps these draws apart from others that are named by as many integers.
_TRACE = 0x5452


@dataclass(frozen=True)
class Hessian:
    """The curvature at one point.

    Attributes:
        eigenvalues: the k of largest magnitude, by falling magnitude, with their signs.
        residuals: ||H v - theta v|| of each: an eigenvalue is no further off than that.
        trace: estimated without bias.
        trace_error: its standard error; NaN of one sample.
        layers: names of the parameters.
        diagonal_mean_magnitude: mean over each layer's elements of the estimate's magnitude.
        products: Hessian products that were made.
    """

    eigenvalues: list[float]
    residuals: list[float]
    trace: float
    trace_error: float
    layers: list[str]
    diagonal_mean_magnitude: list[float]
    products: int


def hessian(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    *,
    k: int = 5,
    iterations: int | None = None,
    tolerance: float = 1e-4,
    block: int | None = None,
    samples: int = 20,
    chunk: int | None = None,
    seed: int = 0,
    method: Method = "exact",
    backend: Backend = "torch",
    process_group: torch.distributed.ProcessGroup | None = None,
) -> Hessian:
    """Measure the Hessian of the mean loss over a batch, at the present weights.

    Costs at most ``iterations + samples`` products, of a backward pass each where the batch is one
    chunk (and one forward and two backward passes before), else of one forward and two backward
    passes over the batch. Memory: 2 x iterations vectors of the parameters' size.

    With "curvlinops" (extra ``curvature``) products are forward-over-reverse, and the eigenvalues
    ARPACK's: restarted, so that it holds max(2*k + 1, 20) vectors, and needs as many products as
    it takes.

    Args:
        model: whose parameters in training. Modes are as it is: with dropout, of one draw of it.
        loss_fn: see :data:`LossFn`.
        batch: what it is called with.
        k: eigenvalues.
        iterations: Lanczos's products at most; None for 6*k + 30.
        tolerance: of the largest eigenvalue, at which residuals it ends earlier.
        block: Lanczos's first vectors (see :func:`largebatch.curvature.eigenpairs_of`); None for 2,
            since from one it may end with an eigenvalue left out that comes late.
        samples: products for trace and diagonal.
        chunk: examples of a forward pass; None for all at once.
        seed: of all that is drawn.
        method: see :func:`largebatch.curvature.hessian_products`; "differences" under FSDP2.
        backend: "torch", which runs everywhere, or "curvlinops", on whole weights.
        process_group: replicas whose products are averaged, each with its own batch.

    Raises:
        ValueError: arguments that do not fit; a loss that is not finite, or does not reach the
            parameters; what the other backend does not do.
        ModuleNotFoundError: curvlinops is not installed.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> found = hessian(model, lambda x: model(x).square().sum(), (x,), k=2)
        >>> [round(each, 3) for each in (*found.eigenvalues, found.trace)]
        [8.0, 2.0, 10.0]
        >>> [round(each, 3) for each in found.diagonal_mean_magnitude]
        [5.0]
    """
    if samples < 1 or backend not in get_args(Backend):
        raise ValueError(
            "a Hessian needs samples >= 1 and a backend of 'torch' or 'curvlinops', got "
            f"samples={samples}, backend={backend!r}"
        )
    if backend == "curvlinops":
        if process_group is not None or method != "exact" or block or iterations:
            raise ValueError(
                "backend='curvlinops' goes by k, tolerance, samples, chunk and seed alone: leave "
                "process_group, method, block and iterations out, or use backend='torch'"
            )
        with curvlinops_hessian(model, loss_fn, batch, chunk) as product:
            pairs = arpack_pairs(product, trained(model), k, tolerance, seed)
            traces, diagonal = _estimated(product, trained(model), pairs, samples, seed)
    else:
        with mean_hessian(
            model, loss_fn, batch, chunk=chunk, method=method, process_group=process_group
        ) as product:
            pairs = _pairs(product, model, k, iterations, tolerance, block, seed)
            traces, diagonal = _estimated(product, trained(model), pairs, samples, seed)
    return Hessian(
        eigenvalues=pairs.values.tolist(),
        residuals=pairs.residuals.tolist(),
        trace=statistics.fmean(traces),
        trace_error=statistics.stdev(traces) / samples**0.5 if samples > 1 else math.nan,
        layers=layers(model),
        diagonal_mean_magnitude=diagonal,
        products=product.made,
    )


def eigenpairs(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    k: int,
    *,
    iterations: int | None = None,
    tolerance: float = 1e-4,
    block: int | None = None,
    chunk: int | None = None,
    seed: int = 0,
    method: Method = "exact",
    process_group: torch.distributed.ProcessGroup | None = None,
) -> Eigenpairs:
    """The top eigenpairs alone, with their vectors, as :func:`~largebatch.probes.alignment` wants.

    Arguments and cost are those of :func:`hessian`, less its samples.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> eigenpairs(model, lambda x: model(x).square().sum(), (x,), 1).vectors[0].abs().round()
        tensor([[[1., 0.]]])
    """
    with mean_hessian(
        model, loss_fn, batch, chunk=chunk, method=method, process_group=process_group
    ) as product:
        return _pairs(product, model, k, iterations, tolerance, block, seed)


def _pairs(
    product: Product,
    model: nn.Module,
    k: int,
    iterations: int | None,
    tolerance: float,
    block: int | None,
    seed: int,
) -> Eigenpairs:
    parameters = trained(model)
    size = sum(p.numel() for p in parameters)
    most = min(6 * k + 30 if iterations is None else iterations, size)
    first = min(2, most) if block is None else block
    return eigenpairs_of(
        product, parameters, k, iterations=most, block=first, tolerance=tolerance, seed=seed
    )


def _estimated(
    product: Product, parameters: Sequence[Tensor], pairs: Eigenpairs, samples: int, seed: int
) -> tuple[list[float], list[float]]:
    """Estimates of the trace, one a sample; and of each layer the diagonal's mean magnitude."""
    space, values = Space(parameters), pairs.values
    vectors = torch.cat([v.unsqueeze(1).flatten(1) for v in pairs.vectors], dim=1)
    diagonal, traces = values @ vectors.square(), []
    for sample in range(samples):
        z = [rademacher(p, _TRACE, seed, sample, j) for j, p in enumerate(parameters)]
        signs, row = space.flat(z), space.flat(product(z))
        parts = torch.cat([(signs @ row)[None], vectors @ signs, vectors @ row])
        whole, a, b = torch.split(space.total(parts), [1, len(values), len(values)])
        # (P z)' H (P z), of the one product with z itself.
        rest = whole.double() - 2 * (a @ b).double() + (values @ a.square()).double()
        traces.append(float(values.double().sum() + rest))
        diagonal.add_(signs * (row - (values * a) @ vectors), alpha=1 / samples)
    sums = torch.stack([each.abs().sum() for each in space.cut(diagonal[None])])
    means = space.total(sums) / torch.tensor([p.numel() for p in parameters]).to(sums)
    return traces, means.tolist()
