"""Looking without leaving a trace: what a probe may use and must give back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..seeding import kept_random_state

__all__ = ["untouched"]


@contextmanager
def untouched(
    model: nn.Module, *, weights: bool = False, seed: int | None = None
) -> Iterator[None]:
    """Within, do as you like with a model; after, all is as it was, bit for bit.

    That is: ``.grad`` (the very tensors, which are set aside within), buffers, which modules are in
    training mode, which parameters require a gradient, torch's random state on the CPU and the
    model's devices, whether gradients are recorded; and with ``weights`` the parameters, of which
    a copy is held. Also where it raises. With ``seed`` random numbers start from there within, so
    that two looks see the same dropout.

    Example:
        >>> model = nn.BatchNorm1d(2)
        >>> with untouched(model):
        ...     _ = model.eval().train()(torch.randn(8, 2))
        >>> model.running_mean, model.training
        (tensor([0., 0.]), True)
    """
    parameters, buffers = list(model.parameters()), list(model.buffers())
    gradients = [p.grad for p in parameters]
    wanted = [p.requires_grad for p in parameters]
    held = [(module, dict(module._buffers)) for module in model.modules()]
    modes = [(module, module.training) for module in model.modules()]
    kept = [each.detach().clone() for each in (*buffers, *(parameters if weights else ()))]
    for p in parameters:
        p.grad = None
    try:
        with kept_random_state(parameters) as devices, torch.enable_grad():
            if seed is not None:
                _seed(seed, devices.get("cuda", []))
            yield
    finally:
        for module, training in modes:
            module.training = training
        for module, own in held:  # a forward pass may have put others in their place
            module._buffers.clear()
            module._buffers.update(own)
        for p, gradient, required in zip(parameters, gradients, wanted, strict=True):
            p.grad = gradient
            p.requires_grad_(required)
        _put_back([*buffers, *(parameters if weights else ())], kept)


def _seed(seed: int, devices: list[int]) -> None:
    torch.default_generator.manual_seed(seed)
    for index in devices:
        torch.cuda.default_generators[index].manual_seed(seed)


@torch.no_grad()
def _put_back(tensors: list[Tensor], kept: list[Tensor]) -> None:
    for tensor, value in zip(tensors, kept, strict=True):
        tensor.copy_(value)
