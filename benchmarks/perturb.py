"""What each perturbation, gradient noise and batch trick adds to a step: ResNet-20, 16 x 32 images.

    python benchmarks/perturb.py --threads 2      writes benchmarks/results/perturb.json
    python benchmarks/perturb.py --device cuda    writes benchmarks/results/perturb_cuda.json
    python benchmarks/perturb.py --quick          a smoke test, whose numbers say nothing
    python benchmarks/perturb.py --table          prints the rows of the pages from the file

Step: all methods (`noises.py`) run in turns with Workers without any of them, A B C A B C ..., each
with a network of its own; what counts is the ratio of neighbours in time. Of `EigenNoise` a
refresh every 10 steps, on the step's whole batch, is part of the step: it is timed apart, on one
worker's images beside their gradient, and its tenth is added.

Apart: microseconds a worker without forward and backward (`apart.py`) beyond Workers' own, beside
the floor that `noises.py` states. Memory: what is held while the last worker of a step runs, beyond
what Workers holds without the method.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from apart import Given, held, overheads
from noises import COUNT, EVERY, OURS, WAYS, Needs, Way
from table import costs
from timing import (
    RESULTS,
    Step,
    header,
    in_turns,
    line,
    medians,
    memory_rates,
    options,
    ratio,
    write,
)
from torch import Tensor

import largebatch as lb
from largebatch.lab.models import ResNet

Batch = tuple[Tensor, Tensor]


@dataclass
class Trial:
    """One way on a network of its own."""

    way: Way
    count: int
    batch: Batch
    depth: int = 20

    def __post_init__(self) -> None:
        """The same network and optimizer for everybody."""
        torch.manual_seed(0)
        self.model = ResNet(self.depth, classes=10).to(self.batch[0].device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        way = self.way
        self.workers = lb.Workers(
            self.model,
            self.optimizer,
            way.perturb,
            count=self.count,
            gradient_noise=way.noise,
        )
        if self.workers.refreshes:
            self.refresh(2)  # of so few images it is soon done, and as large

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Of the way."""
        return self.way.loss(self.model(x), y)

    def refresh(self, images: int) -> None:
        """On the batch's first images."""
        self.workers.refresh(self.loss, *(each[:images] for each in self.batch))

    def finish(self) -> None:
        """What follows combine."""
        self.way.after(self.model)
        self.optimizer.step()

    def step(self) -> None:
        """As a user writes it."""
        self.workers.backward(self.loss, *self.batch)
        self.finish()

    def memory(self) -> int:
        """Bytes held in a step's last pass; the first step's memory is filled by then."""
        sizes: list[int] = []

        def loss(x: Tensor, y: Tensor) -> Tensor:
            sizes.append(held(self.workers))
            return self.loss(x, y)

        few = [each[: 2 * self.count] for each in self.batch]  # what is held is no activation
        for _ in range(2):
            self.workers.backward(loss, *few)
        return sizes[-1]


def apart(trials: dict[str, Trial], rounds: int, device: str) -> dict[str, float]:
    """Microseconds a worker of each, Workers' own among them."""
    some = trials[OURS.name]
    y = some.batch[1][: len(some.batch[1]) // some.count]
    scores = torch.randn(len(y), 10, device=device, requires_grad=True)

    def loss(way: Way) -> Step:
        def both() -> None:
            scores.grad = None
            way.loss(scores, y).backward()  # type: ignore[no-untyped-call]

        return both

    given = {n: Given(t.workers, loss(t.way), t.finish) for n, t in trials.items()}
    return overheads(given, rounds, device, loss(OURS))


def rates(trial: Trial, device: str) -> dict[str, float]:
    """Bytes a second of a copy larger than the caches, and nanoseconds of a random number."""
    count = sum(p.numel() for p in trial.model.parameters())
    numbers, source = torch.empty(count, device=device), torch.Generator(device).manual_seed(0)
    ways: dict[str, Step] = {
        "normal": lambda: numbers.normal_(generator=source),
        "uniform": lambda: numbers.uniform_(generator=source),
    }
    spent = medians(in_turns(ways, 15, device=device))
    each = {f"ns_per_{name}_number": t / count * 1e9 for name, t in spent.items()}
    return {"bytes_per_second": memory_rates(16 * count, device)["copy"], **each}


def floor(way: Way, trial: Trial, found: dict[str, float]) -> float:
    """Microseconds a worker for the bytes and numbers that the way needs."""
    sizes = {
        "all": sum(p.numel() for p in trial.model.parameters()),
        "filters": sum(p.numel() for p in trial.model.parameters() if p.ndim >= 2),
    }

    def spent(need: Needs) -> float:
        number = min(found["ns_per_normal_number"], found["ns_per_uniform_number"]) * 1e-9
        each = 4 * need.passes / found["bytes_per_second"] + need.numbers * number
        return sizes[need.of] * each / (trial.count if need.once_a_step else 1)

    return sum(map(spent, way.needs)) * 1e6


def refreshing(trial: Trial, rounds: int, device: str) -> dict[str, float]:
    """A refresh over a gradient, both of one worker's images."""
    images = len(trial.batch[0]) // trial.count
    x, y = (each[:images] for each in trial.batch)

    def gradient() -> None:
        trial.optimizer.zero_grad()
        trial.loss(x, y).backward()  # type: ignore[no-untyped-call]

    ways: dict[str, Step] = {"refresh": lambda: trial.refresh(images), "gradient": gradient}
    times = in_turns(ways, rounds, device=device)
    return ratio(times["refresh"], times["gradient"])


def run(count: int, each: int, rounds: int, depth: int, device: str) -> dict[str, Any]:
    """Everything, as it is written to the file."""
    batch = (
        torch.randn(count * each, 3, 32, 32, device=device),
        torch.randint(10, (count * each,), device=device),
    )
    trials = {way.name: Trial(way, count, batch, depth) for way in (OURS, *WAYS)}
    base = trials[OURS.name]
    memory = {name: trial.memory() for name, trial in trials.items()}
    times = in_turns({n: trial.step for n, trial in trials.items()}, rounds, device=device)
    spent, speed = apart(trials, 3 * rounds, device), rates(base, device)
    parameters = sum(p.nbytes for p in base.model.parameters())
    methods: dict[str, Any] = {}
    for way in WAYS:
        trial = trials[way.name]
        over = ratio(times[way.name], times[OURS.name])
        found = methods[way.name] = {
            "page": way.page,
            "class": type(way.perturb or way.noise).__name__,
            "over_workers": over,
            "us_per_worker": spent[way.name] - spent[OURS.name],
            "floor_us_per_worker": floor(way, trial, speed),
            "bytes_held": memory[way.name] - memory[OURS.name],
            "bytes_needed": trial.workers.bytes_needed,
        }
        if trial.workers.refreshes:
            share = refreshing(trial, max(2, rounds // 4), device)
            found["refresh_over_gradient"], found["without_refresh"] = share, over
            found["over_workers"] = {n: over[n] + share["median"] / EVERY for n in over}
    settings = {"workers": count, "images_per_worker": each, "rounds": rounds, "device": device}
    return {
        **header("perturb", {**settings, "steps_per_refresh": EVERY}, device),
        "parameter_bytes": parameters,
        "rates": speed,
        "median_seconds_per_step": medians(times),
        "us_per_worker_of_workers": spent[OURS.name],
        "methods": methods,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, print; with --table only print what is written."""
    parser = options(__doc__, "perturb.json, perturb_cuda.json", rounds=8)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--table", action="store_true", help="the rows of the pages, measured last")
    chosen = parser.parse_args(arguments)
    cuda = "_cuda" if chosen.device.startswith("cuda") else ""
    path: Path = chosen.out or RESULTS / f"perturb{cuda}.json"
    if chosen.table:
        found = json.loads(path.read_text("utf-8"))
        for page in ("perturbations", "noise-and-loss"):
            print("\n".join([f"docs/{page}.md", *costs(found, page), ""]))
        return 0
    torch.set_num_threads(chosen.threads)
    count, each, rounds, depth = (2, 2, 2, 8) if chosen.quick else (COUNT, 32, chosen.rounds, 20)
    found = run(count, each, rounds, depth, chosen.device)
    write(found, path)
    for name, of in found["methods"].items():
        apart_from = f"{of['us_per_worker']:.0f} us, floor {of['floor_us_per_worker']:.0f}"
        print(line(name, of["over_workers"], apart_from))
    return 0


if __name__ == "__main__":
    sys.exit(main())
