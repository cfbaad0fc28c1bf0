"""What normalizes over the examples of a forward pass couples them."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["has_batch_norm"]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a module of the network is batch norm.

    Example:
        >>> has_batch_norm(nn.Sequential(nn.BatchNorm1d(3))), has_batch_norm(nn.LayerNorm(3))
        (True, False)
    """
    return any(isinstance(module, _BatchNorm) for module in model.modules())
