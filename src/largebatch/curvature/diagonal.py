r"""The diagonal of a loss's Hessian, estimated from a few products.

    diag H = E[z * (H z)],   z_i = -1 or 1 with equal chance

H: the Hessian over all parameters; z: of their shape. One z estimates element i with the variance
sum over j != i of H_ij^2, so without error where H is diagonal (Gaussian z would add 2*H_ii^2); the
mean over n of them has 1/n of that.
Source: Bekas, Kokiopoulou, Saad, "An estimator for the diagonal of a matrix" (2007), with the signs
of Hutchinson (1990).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from ..seeding import generator
from .passes import LossFn
from .products import Method, hessian_products

__all__ = ["hutchinson_diagonal", "rademacher"]

# Keeps these draws apart from others that are named by as many integers.
_SIGNS = 0x5241


def hutchinson_diagonal(
    fn: LossFn,
    parameters: Sequence[Tensor],
    *,
    samples: int = 1,
    seed: int = 0,
    step: int = 0,
    method: Method = "exact",
) -> list[Tensor]:
    """Return an unbiased estimate of the Hessian's diagonal, a tensor of each parameter's shape.

    Args:
        fn: evaluates the model and returns the loss, one number in a tensor.
        parameters: what the Hessian is taken over.
        samples: how many z are averaged, at a product each.
        seed: with `step`, the sample and the parameter's place names the random numbers; the
            global generator is neither read nor moved.
        step: another number for each estimate, as the training step.
        method: how products are made: see :func:`hessian_products`.

    Returns:
        In each parameter's dtype, float32 for half precision.

    Raises:
        ValueError: fewer than one sample, or as :func:`hessian_vector_product`.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> hutchinson_diagonal(lambda: w.pow(3).sum(), [w])
        [tensor([ 6., 12.])]
    """
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        raise ValueError(f"a diagonal needs a whole number of samples from 1, got {samples!r}")
    product = hessian_products(fn, parameters, method=method)
    wide = [
        torch.float32 if p.dtype in (torch.float16, torch.bfloat16) else p.dtype for p in parameters
    ]
    total = [
        torch.zeros_like(p, dtype=d, requires_grad=False)
        for p, d in zip(parameters, wide, strict=True)
    ]
    for sample in range(samples):
        z = [rademacher(p, seed, step, sample, j) for j, p in enumerate(parameters)]
        for sum_, signs, row in zip(total, z, product(z), strict=True):
            sum_.add_(signs * row, alpha=1 / samples)
    return total


def rademacher(like: Tensor, *names: int) -> Tensor:
    """Return -1 or 1 with equal chance, of the shape, dtype, device and placement of `like`.

    Drawn for the whole parameter, also where it is sharded, from a generator of its own that is
    named by the integers; in the order of the indices whatever the memory format.

    Example:
        >>> rademacher(torch.zeros(4), 0, 1).abs()
        tensor([1., 1., 1., 1.])
    """
    source = generator(like.device, _SIGNS, *names)
    drawn = torch.empty(like.shape, device=like.device).bernoulli_(0.5, generator=source)
    signs = drawn.mul_(2).sub_(1).to(like.dtype)
    tensor = sys.modules.get("torch.distributed.tensor")  # whoever has a DTensor imported it
    if tensor is None or not isinstance(like, tensor.DTensor):
        return signs
    mesh, placements = like.device_mesh, like.placements
    cut: Tensor = tensor.distribute_tensor(signs, mesh, placements, src_data_rank=None)
    return cut
