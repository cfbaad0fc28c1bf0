"""The curvature of a loss: its Hessian's products with vectors, and its diagonal.

Example:
    >>> import torch
    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> loss = lambda: (w[0] ** 2 * w[1]).sum()
    >>> hessian_vector_product(loss, [w], [torch.tensor([1.0, 0.0])])
    [tensor([4., 2.])]
"""

from .diagonal import hutchinson_diagonal, rademacher
from .lanczos import Eigenpairs, eigenpairs_of, top_eigenpairs
from .passes import LossFn
from .products import Method, Product, hessian_products, hessian_vector_product

__all__ = [
    "Eigenpairs",
    "LossFn",
    "Method",
    "Product",
    "eigenpairs_of",
    "hessian_products",
    "hessian_vector_product",
    "hutchinson_diagonal",
    "rademacher",
    "top_eigenpairs",
]
