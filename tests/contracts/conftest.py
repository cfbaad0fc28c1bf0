"""The optimizers under contract: all that largebatch.optim exports, and nothing by hand."""

import inspect

import pytest
import torch

from largebatch import optim
from largebatch.contracts import Listener


def told(cls):
    """The class, or where it listens to workers one whose steps are told of one: the gradient."""
    if not issubclass(cls, Listener):
        return cls

    def update(self, buckets):
        owned = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad for p in owned]
        self.saw(0, owned, gradients, factor=1.0, weight=1.0)
        self.combined(gradients, factor=1.0)
        cls.update(self, buckets)

    return type(cls.__name__, (cls,), {"update": update, "__init__": cls.__init__})


def optimizers():
    exported = (getattr(optim, name) for name in optim.__all__)
    classes = (each for each in exported if inspect.isclass(each))
    rules = (each for each in classes if issubclass(each, torch.optim.Optimizer))
    return [told(each) for each in rules if not inspect.isabstract(each)]


def pytest_generate_tests(metafunc):
    under_contract = metafunc.module.__name__.rpartition(".")[2].startswith("test_optimizers")
    if under_contract and "cls" in metafunc.fixturenames:
        metafunc.parametrize("cls", optimizers(), ids=lambda cls: cls.__name__)


@pytest.fixture
def every_optimizer():
    return {each.__name__ for each in optimizers()}
