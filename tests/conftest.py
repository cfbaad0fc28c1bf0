"""What many tests start from: one thread, a fixed seed, a small network and its data."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))  # of every_method.py


COLLECTED = pytest.StashKey[set[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note what there is, before some are left out by their marks."""
    config.stash[COLLECTED] = {item.nodeid for item in items}


@pytest.fixture
def collected(pytestconfig: pytest.Config) -> set[str]:
    """The ids of all tests in the files of this run."""
    return pytestconfig.stash[COLLECTED]


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """A convolution and a linear layer, with biases, for images of 2 x 4 x 4 and 3 classes."""

    def make(dtype: torch.dtype = torch.float64, norm: bool = False) -> nn.Module:
        torch.manual_seed(1)
        middle = nn.BatchNorm2d(3) if norm else nn.Tanh()
        layers = [nn.Conv2d(2, 3, 3), middle, nn.Flatten(), nn.Linear(12, 3)]
        return nn.Sequential(*layers).to(dtype)

    return make


@pytest.fixture
def batches() -> Callable[..., list[tuple[Tensor, Tensor]]]:
    """``steps`` batches of ``size`` images and their classes."""

    def make(steps: int, size: int, dtype: torch.dtype = torch.float64) -> list[tuple]:
        source = torch.Generator().manual_seed(2)
        return [
            (
                torch.randn(size, 2, 4, 4, generator=source, dtype=torch.float64).to(dtype),
                torch.randint(3, (size,), generator=source),
            )
            for _ in range(steps)
        ]

    return make


@pytest.fixture
def loss_of() -> Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]:
    """The mean cross entropy of a model, as ``Workers.backward`` wants it."""

    def of(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, y: nn.functional.cross_entropy(model(x), y)

    return of
