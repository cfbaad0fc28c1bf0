"""A network in training that probes are switched on and off for, and a clock in their calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import largebatch as lb

__all__ = ["EACH", "Scene", "clocked", "median", "switch"]

EACH = 32  # images of a worker


class Scene:
    """A network in training that probes are switched on and off for."""

    def __init__(self, make: Callable[[], nn.Module], shape: tuple[int, ...], count: int) -> None:
        """Make everything from a network and its images' shape."""
        torch.manual_seed(0)
        self.steps = 0
        self.model = make()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.workers = lb.Workers(self.model, self.optimizer, count=count)
        self.batch = torch.randn(count * EACH, *shape), torch.randint(10, (count * EACH,))

    def to(self, device: str) -> Scene:
        """The same on a device."""
        self.model.to(device)
        self.batch = (self.batch[0].to(device), self.batch[1].to(device))
        return self

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The mean loss, of a worker's piece or of the batch."""
        return nn.functional.cross_entropy(self.model(x), y)

    def losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss of each example."""
        return nn.functional.cross_entropy(self.model(x), y, reduction="none")

    def step(self) -> None:
        """One of training."""
        self.steps += 1
        self.workers.backward(self.loss, *self.batch)
        self.optimizer.step()

    def gradient(self) -> None:
        """One of the whole batch at once."""
        self.model.zero_grad()
        self.loss(*self.batch).backward()  # type: ignore[no-untyped-call]


class Clocked:
    """A probe whose calls are timed."""

    def __init__(self, scene: Scene, probe: Any) -> None:
        """Hold the probe; a call belongs to the step that the scene is at."""
        self.scene, self.probe = scene, probe
        self.calls: list[tuple[int, float]] = []
        self.clock = self

    def __getattr__(self, name: str) -> Any:
        """What the probe has; a method with a clock around it."""
        found = getattr(self.probe, name)
        if not callable(found):
            return found

        def clocked(*args: Any, **more: Any) -> Any:
            start = time.thread_time()
            try:
                return found(*args, **more)
            finally:
                self.calls.append((self.scene.steps, time.thread_time() - start))

        return clocked


def median(calls: list[tuple[int, float]], rounds: int) -> float:
    """Of what the calls of one step take together, over the last steps."""
    steps: dict[int, float] = {}
    for step, seconds in calls:
        steps[step] = steps.get(step, 0.0) + seconds
    return statistics.median([*steps.values()][-rounds:])


def clocked(scene: Scene, probe: Any) -> Clocked | Any:
    """The probe with a clock in it: whole where it listens, its hooks where it attaches."""
    if hasattr(probe, "saw"):
        return Clocked(scene, probe)
    clock = Clocked(scene, probe)
    for name in ("_before", "_after", "_ahead", "_behind"):
        if hasattr(probe, name):
            setattr(probe, name, getattr(clock, name))
    probe.clock = clock
    return probe


def switch(scene: Scene, probe: Any) -> Any:
    return scene.workers.listen(probe) if hasattr(probe, "saw") else probe.attach(scene.optimizer)
