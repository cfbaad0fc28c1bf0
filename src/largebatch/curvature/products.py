r"""Products of a loss's Hessian with vectors, without ever forming the matrix.

    H v = d/dw (grad L(w) . v)                                exact: a second backward pass
        ~ (grad L(w + e*v) - grad L(w - e*v)) / (2*e)         differences: two gradients

w: all parameters as one vector; v: of its shape; L: the loss, one number; H: its Hessian. e =
cbrt(eps)*(1 + ||w||)/||v||, with eps the rounding of the coarsest parameter: there the errors of
truncation, ~e^2, and of rounding, ~eps/e, balance.
Source: Pearlmutter, "Fast exact multiplication by the Hessian" (1994).

All is left as it was: weights (bit for bit), `.grad`, `requires_grad`, the global random state.
What a model changes in its own forward pass, such as running statistics, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..mesh import local
from .differences import difference, refuse_halves
from .passes import LossFn, check_reached, evaluated
from .twice import refuse_once_differentiable

__all__ = ["Method", "Product", "hessian_products", "hessian_vector_product"]

Method = Literal["exact", "differences"]
Product = Callable[[Sequence[Tensor]], list[Tensor]]


def hessian_vector_product(
    fn: LossFn, parameters: Sequence[Tensor], vectors: Sequence[Tensor], *, method: Method = "exact"
) -> list[Tensor]:
    """Return H v, a tensor of each parameter's shape and dtype.

    Args:
        fn: evaluates the model and returns the loss, one number in a tensor.
        parameters: what the Hessian is taken over. Frozen ones, and those that the loss does not
            depend on, have zero rows.
        vectors: v, a tensor of each parameter's shape.
        method: see :func:`hessian_products`.

    Raises:
        ValueError: vectors do not fit the parameters, no method of that name, or the loss reaches
            none of the parameters.
        RuntimeError: the model has no second backward.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> hessian_vector_product(lambda: w.pow(3).sum(), [w], [torch.ones(2)])
        [tensor([ 6., 12.])]
    """
    return hessian_products(fn, parameters, method=method)(vectors)


def hessian_products(
    fn: LossFn,
    parameters: Sequence[Tensor],
    *,
    method: Method = "exact",
    process_group: torch.distributed.ProcessGroup | None = None,
) -> Product:
    """Return the function from v to H v, for several products at one point.

    With "exact" the loss and its gradient are computed here, once, and the graph of both is kept
    until the function is dropped; a product is one more backward pass. It needs a model that can
    be differentiated twice: the eager module, not a compiled one, nor FSDP2's, nor flash attention.

    With "differences" each product is two forward and backward passes with the weights moved, by
    `loss.backward()` as in training: so whatever trains works, and what averages gradients over
    processes (DDP, FSDP2) averages the Hessian. Both passes see the same random numbers. In
    full precision: autocast's rounding would be magnified. Under FSDP2 give all trained
    parameters: the gradients of others would grow.

    Args:
        fn: evaluates the model and returns the loss, one number in a tensor.
        parameters: what the Hessian is taken over.
        method: "exact" or "differences".
        process_group: processes whose products are averaged, where each has its own batch and a
            replica of the weights.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> product = hessian_products(lambda: w.prod(), [w])
        >>> product([torch.tensor([1.0, 0.0])]), product([torch.tensor([0.0, 1.0])])
        ([tensor([0., 1.])], [tensor([1., 0.])])
    """
    if method not in ("exact", "differences"):
        raise ValueError(f"method must be 'exact' or 'differences', got {method!r}")
    places = [j for j, p in enumerate(parameters) if p.requires_grad]
    trained = [parameters[j] for j in places]
    if not trained:
        raise ValueError(
            f"a Hessian needs a trained parameter, but none of the {len(parameters)} given has "
            "requires_grad=True"
        )
    if method == "exact":
        inner = _exact(fn, trained)
    else:
        refuse_halves(trained)
        inner = partial(difference, fn, trained)

    def product(vectors: Sequence[Tensor]) -> list[Tensor]:
        _check_vectors(parameters, vectors)
        found = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        chosen = [vectors[j].detach().to(parameters[j].dtype) for j in places]
        rows = inner(chosen)
        if process_group is not None:
            mean_over(process_group, rows)
        for j, row in zip(places, rows, strict=True):
            found[j] = row
        return found

    return product


def _exact(fn: LossFn, trained: Sequence[Tensor]) -> Product:
    with evaluated(fn, trained) as loss:
        refuse_once_differentiable(loss)
        gradients = torch.autograd.grad(loss, trained, create_graph=True, allow_unused=True)
    check_reached(gradients)
    # A gradient that does not depend on the weights is of a linear term: zero rows.
    bent = [j for j, g in enumerate(gradients) if g is not None and g.requires_grad]

    def product(vectors: Sequence[Tensor]) -> list[Tensor]:
        if not bent:
            return [torch.zeros_like(v) for v in vectors]
        outputs, weights = [gradients[j] for j in bent], [vectors[j] for j in bent]
        with _second_backward():
            rows = torch.autograd.grad(
                outputs, trained, weights, retain_graph=True, allow_unused=True
            )
        pairs = zip(rows, vectors, strict=True)
        return [torch.zeros_like(v) if row is None else _placed(row, v) for row, v in pairs]

    return product


def mean_over(group: torch.distributed.ProcessGroup, tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in place."""
    for tensor in tensors:
        piece = local(tensor)
        torch.distributed.all_reduce(piece, group=group)
        piece.div_(torch.distributed.get_world_size(group))


def _placed(row: Tensor, like: Tensor) -> Tensor:
    """The row laid out over the mesh as the parameter is, where it is a DTensor."""
    if not hasattr(row, "redistribute"):
        return row.detach()
    placed: Tensor = row.detach().redistribute(placements=like.placements)  # type: ignore[attr-defined]
    return placed


@contextmanager
def _second_backward() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "double backward" in str(error) or "is not implemented" in str(error):
            raise RuntimeError(
                "an exact product needs a model that can be differentiated twice, but here "
                f"'{error}': call the eager module, or use method='differences'"
            ) from error
        raise


def _check_vectors(parameters: Sequence[Tensor], vectors: Sequence[Tensor]) -> None:
    needed, given = ([tuple(t.shape) for t in each] for each in (parameters, vectors))
    if needed != given:
        raise ValueError(f"vectors must have the parameters' shapes {needed}, got {given}")
