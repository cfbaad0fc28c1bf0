"""The micro-batch loop on a GPU, whose kernels are small: plain, by Workers, and with CUDA graphs.

    plain            one forward and backward pass over the whole batch
    loop             the accumulation loop, as everybody writes it
    workers, gnc     Workers without and with GNC
    ... graphed      the same with model and loss captured by torch.cuda.make_graphed_callables

Without a GPU the ways without graphs run all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import in_turns, medians, ratio
from torch import Tensor, nn

import largebatch as lb
from largebatch.lab.models import ResNet

__all__ = ["ways"]

Step = Callable[[Tensor, Tensor], None]
Loss = Callable[[Tensor, Tensor], Tensor]


class LossOf(nn.Module):
    """Model and loss in one, so that one graph holds both."""

    def __init__(self, model: nn.Module) -> None:
        """Of a classifier."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross entropy."""
        return nn.functional.cross_entropy(self.model(x), y)


def parts(depth: int, device: str) -> tuple[LossOf, torch.optim.Optimizer]:
    torch.manual_seed(0)
    loss = LossOf(ResNet(depth, classes=10)).to(device)
    return loss, torch.optim.SGD(loss.parameters(), lr=0.01, momentum=0.9)


def loop(depth: int, device: str, count: int) -> Step:
    """Accumulation over ``count`` micro-batches; one is a plain step."""
    loss_of, optimizer = parts(depth, device)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        for xi, yi in zip(x.chunk(count), y.chunk(count), strict=True):
            (loss_of(xi, yi) / count).backward()
        optimizer.step()

    return step


def worked(depth: int, sample: tuple[Tensor, Tensor], count: int, gnc: bool, graphed: bool) -> Step:
    """The same by Workers; ``sample`` is one worker's micro-batch."""
    model, optimizer = parts(depth, str(sample[0].device))
    perturb = lb.GNC(alpha=0.1) if gnc else None
    workers = lb.Workers(model, optimizer, perturb, count=count)
    loss: Loss = torch.cuda.make_graphed_callables(model, sample) if graphed else model

    def step(x: Tensor, y: Tensor) -> None:
        workers.backward(loss, x, y)
        optimizer.step()

    return step


def ways(depth: int, batch: tuple[Tensor, Tensor], count: int) -> dict[str, Step]:
    """Every way of the step that the device can take."""
    device = batch[0].device
    images = len(batch[0]) // count
    sample = batch[0][:images].clone(), batch[1][:images].clone()
    found = {"plain": loop(depth, str(device), 1), "loop": loop(depth, str(device), count)}
    for graphed in (False, True) if device.type == "cuda" else (False,):
        for name, gnc in (("workers", False), ("gnc", True)):
            after = " graphed" if graphed else ""
            found[name + after] = worked(depth, sample, count, gnc, graphed)
    return found


def run(depth: int, count: int, images: int, rounds: int, device: str) -> dict[str, Any]:
    """One batch's part of the results."""
    size = count * images
    batch = torch.randn(size, 3, 32, 32, device=device), torch.randint(10, (size,), device=device)
    steps = {name: partial(step, *batch) for name, step in ways(depth, batch, count).items()}
    times = in_turns(steps, rounds, device=device)
    return {
        "workers": count,
        "images_per_worker": images,
        "median_seconds_per_step": medians(times),
        "ratios": {f"{n}/plain": ratio(each, times["plain"]) for n, each in times.items()},
    }
