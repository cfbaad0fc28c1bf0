"""What the agreement tests share: one problem, and ways of running two optimizers on it."""

import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

# A matrix and a vector that start at zero are at the end.
SHAPES = [(3, 4), (4,), (2, 3, 2, 2), (), (5, 2), (6,)]
RATES = [1.0, 1.5, 2.0, 0.5, 0.25, 1.0, 3.0, 1.0]
ZEROS = 2

Change = Callable[[list[nn.Parameter], list[Tensor]], list[Tensor]]


def untouched(weights: list[nn.Parameter], gradients: list[Tensor]) -> list[Tensor]:
    return gradients


@dataclass(frozen=True)
class Problem:
    """Weights, and for each step a rate and gradients that do not depend on the weights."""

    start: Sequence[Tensor]
    steps: Sequence[Sequence[Tensor]]
    rates: Sequence[float]

    def at(self, *rates: float) -> "Problem":
        """The same with other rates; a single one for all steps."""
        return replace(self, rates=rates * len(self.steps) if len(rates) == 1 else rates)

    def without_zeros(self) -> "Problem":
        steps = [gradients[:-ZEROS] for gradients in self.steps]
        return replace(self, start=self.start[:-ZEROS], steps=steps)

    def times(self, factor: float) -> "Problem":
        """The same from weights `factor` times as large."""
        return replace(self, start=[weight * factor for weight in self.start])

    def first(self) -> "Problem":
        """The first step alone."""
        return replace(self, steps=self.steps[:1], rates=self.rates[:1])

    def run(self, make: Callable[..., Any], change: Change = untouched) -> list[Tensor]:
        """The weights after all steps of a torch optimizer.

        `change` runs ahead of each step, on weights and gradients, and returns the gradients.
        """
        weights = [nn.Parameter(w.clone()) for w in self.start]
        optimizer = make(weights, lr=1.0)
        for gradients, rate in zip(self.steps, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.no_grad():
                given = change(weights, list(gradients))
            for weight, gradient in zip(weights, given, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        return [weight.detach() for weight in weights]

    def run_optax(self, chain: Callable[..., Any]) -> list[Tensor]:
        """The same for optax; `chain(optax, rate)` makes the transformation from a schedule."""
        jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
        with jax.enable_x64(True):
            table = jax.numpy.asarray(self.rates)
            transformation = chain(optax, lambda step: table[step])
            weights = [jax.numpy.asarray(w.numpy()) for w in self.start]
            state = transformation.init(weights)
            for gradients in self.steps:
                given = [jax.numpy.asarray(g.numpy()) for g in gradients]
                updates, state = transformation.update(given, state, weights)
                weights = optax.apply_updates(weights, updates)
            return [torch.tensor(w.tolist(), dtype=torch.float64) for w in weights]


@pytest.fixture
def problem() -> Problem:
    weights = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    for weight in weights[-ZEROS:]:
        weight.zero_()
    return Problem(weights, [[torch.randn_like(w) for w in weights] for _ in RATES], RATES)


@pytest.fixture
def same() -> Callable[[list[Tensor], list[Tensor]], None]:
    """Asserts that two optimizers went the same way, up to rounding."""

    def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)

    return check


@pytest.fixture
def apart() -> Callable[[list[Tensor], list[Tensor]], None]:
    """Asserts that they did not, by much more than rounding."""

    def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
        a, b = (torch.cat([tensor.flatten() for tensor in each]) for each in (ours, theirs))
        assert (a - b).norm() > 1e-4 * b.norm()

    return check


@pytest.fixture
def two_processes() -> Callable[..., None]:
    """Runs a test's own file as a script in two processes, told its rank, a port and more.

    As a script, since a spawned process cannot import a test module by its name.
    """

    def run(script: str, *more: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        commands = [
            [sys.executable, script, str(rank), str(port), *map(str, more)] for rank in (0, 1)
        ]
        started = [
            subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for c in commands
        ]
        try:
            said = [each.communicate(timeout=240)[0] for each in started]
        finally:
            for each in started:
                each.kill()
        assert [each.returncode for each in started] == [0, 0], "\n".join(said)

    return run
