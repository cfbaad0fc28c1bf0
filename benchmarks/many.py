"""Many simulated workers on one device: what a worker costs when there are thousands of them.

All ways run as many passes, of as many images each. Noise of 4,096 workers is far larger than a
cache: what it cannot do without is

    read the slot, write it; at the end of the step read and write it: 4 x bytes of a slot
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timing import Step, in_turns, medians, memory_rates, ratio
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import largebatch as lb
from largebatch.filters import filter_norms

__all__ = ["Problem", "run", "vmapped", "worked"]

ALPHA, LR = 0.1, 0.01
CHUNK = 128  # workers at once, where they are mapped over; of 32 to 1,024 the best, or near it


@dataclass(frozen=True)
class Problem:
    """A network, and what one worker sees.

    Attributes:
        name: in the results.
        make: the network.
        image: the shape of one.
        images: a worker's.
    """

    name: str
    make: Callable[[], nn.Module]
    image: tuple[int, ...]
    images: int

    def parts(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The same network and optimizer for everybody."""
        torch.manual_seed(0)
        model = self.make()
        return model, torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Images and classes for so many workers."""
        source = torch.Generator().manual_seed(0)
        size = count * self.images
        x = torch.randn(size, *self.image, generator=source)
        return x, torch.randint(10, (size,), generator=source)


def plain(problem: Problem, count: int) -> Step:
    """One step on the whole batch, as without workers."""
    model, optimizer = problem.parts()
    x, y = problem.batch(count)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def worked(
    problem: Problem, count: int, dtype: torch.dtype | None, at_once: int = 1
) -> tuple[Step, lb.Workers]:
    """A step of GNC, filter-wise, by Workers."""
    model, optimizer = problem.parts()
    gnc = lb.GNC(ALPHA)
    workers = lb.Workers(model, optimizer, gnc, count=count, noise_dtype=dtype)
    x, y = problem.batch(count)

    def step() -> None:
        workers.backward(
            lambda x, y: nn.functional.cross_entropy(model(x), y), x, y, at_once=at_once
        )
        optimizer.step()

    return step, workers


def vmapped(problem: Problem, count: int, chunk: int) -> tuple[Step, nn.Module]:
    """The same by hand: torch.func maps over ``chunk`` workers, and knows that it is GNC's."""
    model, optimizer = problem.parts()
    names, parameters = zip(*model.named_parameters(), strict=True)
    slots = [torch.zeros(count, *p.shape) for p in parameters]
    x, y = (each.unflatten(0, (count, -1)) for each in problem.batch(count))

    def loss(weights: tuple[Tensor, ...], x: Tensor, y: Tensor) -> Tensor:
        scores = functional_call(model, dict(zip(names, weights, strict=True)), (x,))
        return nn.functional.cross_entropy(scores, y)

    own = vmap(grad(loss))

    @torch.no_grad()
    def step() -> None:
        clean = [p.detach() for p in parameters]
        norms = filter_norms(clean)
        for start in range(0, count, chunk):
            here = slice(start, start + chunk)
            looked = tuple(
                w.expand_as(s[here]) if norm is None else w - s[here] * (ALPHA * LR * norm)
                for w, s, norm in zip(clean, slots, norms, strict=True)
            )
            found = own(looked, x[here], y[here])
            for slot, gradient in zip(slots, found, strict=True):
                slot[here] = gradient
        for parameter, slot in zip(parameters, slots, strict=True):
            parameter.grad = slot.mean(0)
            slot.sub_(parameter.grad)
        optimizer.step()

    return step, model


def repeated(step: Step, times: int) -> Step:
    """The step so often that as many workers run in it as in one with more of them."""

    def steps() -> None:
        for _ in range(times):
            step()

    return steps


def run(problem: Problem, few: int, many: int, rounds: int) -> dict[str, Any]:
    """One problem's part of the results."""
    dtypes = {"float32": None, "bfloat16": torch.bfloat16}
    ways: dict[str, Step] = {}
    needed: dict[str, int] = {}
    for name, dtype in dtypes.items():
        ways[f"few {name}"] = repeated(worked(problem, few, dtype)[0], many // few)
        ways[f"many {name}"], workers = worked(problem, many, dtype)
        needed[name] = workers.bytes_needed
    ways["plain"] = plain(problem, many)
    ways["at once"], _ = worked(problem, many, None, min(CHUNK, many))
    ways["vmap"], model = vmapped(problem, many, min(CHUNK, many))
    times = in_turns(ways, rounds)
    parameters = sum(p.numel() for p in model.parameters())
    rate = memory_rates(many * parameters)["copy"]
    pairs = {
        **{f"many/few, {name}": (f"many {name}", f"few {name}") for name in dtypes},
        "bfloat16/float32": ("many bfloat16", "many float32"),
        "at once/workers": ("at once", "many float32"),
        "at once/plain": ("at once", "plain"),
        "at once/vmap": ("at once", "vmap"),
    }
    spent = medians(times)
    return {
        "images_per_worker": problem.images,
        "parameters": parameters,
        "us_per_example": {n: t / many / problem.images * 1e6 for n, t in spent.items()},
        "ratios": {pair: ratio(times[a], times[b]) for pair, (a, b) in pairs.items()},
        "bytes_needed": needed,
        "floor": {
            "bytes_per_worker": {n: 4 * size // many for n, size in needed.items()},
            "bytes_per_second": rate,
            "us_per_worker": {n: 4 * size / many / rate * 1e6 for n, size in needed.items()},
        },
    }
