"""What the probes' tests look at, and how they count what a probe costs."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn


@dataclass
class Passes:
    """How often a graph was gone through backward."""

    backward: int = 0


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    count = Passes()

    def counted(function: Callable) -> Callable:
        def call(*args, **options):
            count.backward += 1
            return function(*args, **options)

        return call

    monkeypatch.setattr(torch.autograd, "grad", counted(torch.autograd.grad))
    monkeypatch.setattr(torch.autograd, "backward", counted(torch.autograd.backward))
    return count


class Weights(nn.Module):
    """Named vectors and nothing else: for losses whose derivatives are known."""

    def __init__(self, **values: torch.Tensor) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value.double().clone()))


@pytest.fixture
def weights() -> type[Weights]:
    return Weights
