r"""Elements of a Hessian's diagonal without error, at chosen places.

    H_jj = (H e_j)_j,     e_j: 1 at j, 0 elsewhere

One product a place, over the place's parameter alone. For statistics of a network's diagonal a few
places drawn at random do better than :func:`hutchinson_diagonal` of all: there an element errs by
the root of the sum of H_ij^2 over all other weights j, which in a network is many times H_ii.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .passes import LossFn, check_reached, evaluated
from .products import second_backward
from .twice import refuse_once_differentiable

__all__ = ["diagonal_at"]


def diagonal_at(fn: LossFn, parameters: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
    """Return the Hessian's diagonal at some places of each parameter.

    Costs the loss with a graph for two derivatives, and a product for each place.

    Args:
        fn: evaluates the model, which can be differentiated twice, and returns the loss.
        parameters: in training; those that the loss does not depend on have zeros.
        places: for each parameter, numbers of its elements, counted as ``flatten`` does.

    Returns:
        For each parameter one number a place; float32 for half precision.

    Raises:
        ValueError: the loss reaches none of the parameters.
        RuntimeError: the model has no second backward.

    Example:
        >>> w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> diagonal_at(lambda: w.prod() + w.pow(3).sum(), [w], [torch.tensor([2, 0])])
        [tensor([18.,  6.])]
    """
    with evaluated(fn, parameters) as loss:
        refuse_once_differentiable(loss)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    check_reached(gradients)
    return [_elements(*each) for each in zip(parameters, gradients, places, strict=True)]


def _elements(parameter: Tensor, gradient: Tensor | None, places: Tensor) -> Tensor:
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    found = torch.zeros(len(places), dtype=dtype, device=parameter.device)
    if gradient is None or not gradient.requires_grad:  # of a linear term
        return found
    for k, place in enumerate(places.tolist()):
        # Not zeros_like: places are in the order of the indices, in any memory format.
        e = torch.zeros(gradient.shape, dtype=gradient.dtype, device=gradient.device)
        e.view(-1)[place] = 1
        with second_backward():
            (row,) = torch.autograd.grad(
                gradient, parameter, e, retain_graph=True, allow_unused=True
            )
        if row is not None:
            found[k] = row.flatten()[place]
    return found
