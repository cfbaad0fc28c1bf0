"""The few multi-tensor passes of an update: each reads and writes as little as it can.

Nothing here reads a tensor's value on the host, and nothing writes into a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bucket import Bucket, Tensors

__all__ = ["accumulate", "descend", "ones", "rate_on", "times"]


def accumulate(targets: Tensors, bucket: Bucket, scales: Tensors, sign: float = 1.0) -> None:
    """Add sign*s*h to the targets, in place; h is used up where it is a temporary."""
    if not _shared(scales):  # one pass, though a kernel for each tensor
        torch._foreach_addcmul_(targets, bucket.decayed, scales, value=sign)
    elif bucket.owned:
        torch._foreach_mul_(bucket.decayed, scales[0])
        torch._foreach_add_(targets, bucket.decayed, alpha=sign)
    else:
        scaled = torch._foreach_mul(bucket.decayed, scales[0])
        torch._foreach_add_(targets, scaled, alpha=sign)


def descend(weights: Tensors, momenta: Tensors, rate: float | Tensor) -> None:
    """Subtract rate*u from the weights, in place."""
    if isinstance(rate, Tensor):  # as `alpha` it would be read by the host
        torch._foreach_sub_(weights, torch._foreach_mul(momenta, rate))
    else:
        torch._foreach_add_(weights, momenta, alpha=-rate)


def rate_on(lr: float | Tensor, device: torch.device) -> float | Tensor:
    """The learning rate as a number, or as a 0-dim tensor on `device`."""
    if isinstance(lr, Tensor):
        # To the host a copy must be waited for, else what is read there may be rubbish.
        return lr.detach().reshape(()).to(device, non_blocking=device.type != "cpu")
    return lr


def times(scales: Tensors, rate: float | Tensor) -> Tensors:
    """rate*s for each scale; one and the same tensor stays one and the same."""
    if _shared(scales):
        return [scales[0] * rate] * len(scales)
    return torch._foreach_mul(scales, rate)


def ones(bucket: Bucket) -> Tensors:
    """The scale 1 for each parameter of the bucket."""
    first = bucket.decayed[0]
    return [torch.ones((), dtype=first.dtype, device=first.device)] * len(bucket.parameters)


def _shared(scales: Tensors) -> bool:
    return scales[0].ndim == 0 and all(scale is scales[0] for scale in scales)
