"""What Workers cost beside a hand-written accumulation loop: ResNet-20, 16 workers of 32 images.

    python benchmarks/workers.py            writes benchmarks/results/workers.json
    python benchmarks/workers.py --quick    a smoke test of a few seconds, whose numbers say nothing

Three ways of taking the same step run in turn, A B C A B C ..., in one process:

    loop        (loss / M).backward() for each micro-batch, as everybody writes it
    workers     Workers without perturbation
    gnc         Workers with GNC, filter-wise
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import largebatch as lb
from largebatch.lab.environment import environment
from largebatch.lab.models import resnet20

BARS = {"gnc/workers": 1.05, "gnc/loop": 1.06}
RESULTS = Path(__file__).parent / "results" / "workers.json"
Step = Callable[[Tensor, Tensor], None]


def loop(count: int) -> Step:
    """One step of the hand-written accumulation loop."""
    model, optimizer = parts()

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        for xi, yi in zip(x.chunk(count), y.chunk(count), strict=True):
            loss = nn.functional.cross_entropy(model(xi), yi) / count
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def workers(count: int, perturb: lb.Perturbation | None) -> Step:
    """The same step by ``Workers.backward``."""
    model, optimizer = parts()
    those = lb.Workers(model, optimizer, perturb, count=count)

    def step(x: Tensor, y: Tensor) -> None:
        those.backward(lambda x, y: nn.functional.cross_entropy(model(x), y), x, y)
        optimizer.step()

    return step


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same network and optimizer for everybody."""
    torch.manual_seed(0)
    model = resnet20()
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def measure(ways: dict[str, Step], rounds: int, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Seconds of each way in each round, after two rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 2):
        for name, step in ways.items():
            start = time.perf_counter()
            step(*batch)
            seconds[name].append(time.perf_counter() - start)
    return {name: each[2:] for name, each in seconds.items()}


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Median and range of the ratios of neighbours in time."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def overhead(model: nn.Module, perturb: lb.Perturbation | None, count: int, rounds: int) -> float:
    """Microseconds a pass outside forward and backward: gradients are handed over, not computed."""
    those = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.01), perturb, count=count)
    given = [torch.randn_like(p) for p in model.parameters()]

    def hand_over() -> None:
        for parameter, gradient in zip(model.parameters(), given, strict=True):
            parameter.grad = gradient.clone()

    def step() -> None:
        for _ in range(count):
            with those.next():
                hand_over()
        those.combine()

    def only_hand_over() -> None:
        for _ in range(count):
            hand_over()

    def ignoring(run: Callable[[], None]) -> Step:
        return lambda x, y: run()

    ways = {"with": ignoring(step), "without": ignoring(only_hand_over)}
    seconds = measure(ways, rounds, (torch.empty(0), torch.empty(0)))
    spent = {name: float(statistics.median(each)) for name, each in seconds.items()}
    return (spent["with"] - spent["without"]) / count * 1e6


def floor(model: nn.Module) -> dict[str, float]:
    """Bytes that GNC cannot do without, a pass, and how long this memory takes to move them.

    Filters (P bytes): read noise and weight, write copy and moved weight, read copy, write weight.
    All (N bytes): read gradient, write slot; at the end of the step read and write it.
    """
    filters = sum(p.nbytes for p in model.parameters() if p.ndim >= 2)
    everything = sum(p.nbytes for p in model.parameters())
    moved = 6 * filters + 4 * everything
    source = torch.ones(16 * everything // 4)  # as large as the slots, so not in a cache
    target = torch.empty_like(source)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - start)
    rate = 2 * source.nbytes / statistics.median(times)
    return {"bytes_per_pass": moved, "bytes_per_second": rate, "us_per_pass": moved / rate * 1e6}


def small_cnn() -> nn.Module:
    """Six parameters: two convolutions and a linear layer."""
    convolutions = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(784, 10))


def run(count: int, each: int, rounds: int) -> dict[str, Any]:
    """Everything, as it is written to the file."""
    batch = torch.randn(count * each, 3, 32, 32), torch.randint(10, (count * each,))
    gnc = lb.GNC(alpha=0.1)
    ways = {"loop": loop(count), "workers": workers(count, None), "gnc": workers(count, gnc)}
    seconds = measure(ways, rounds, batch)
    pairs = ("workers/loop", "gnc/workers", "gnc/loop")
    ratios = {pair: ratio(*(seconds[name] for name in pair.split("/"))) for pair in pairs}
    networks = {"resnet20": resnet20, "small_cnn": small_cnn}
    methods = {"workers": None, "gnc": gnc}
    return {
        "format": 1,
        "benchmark": "workers",
        "settings": {"workers": count, "images_per_worker": each, "rounds": rounds},
        "environment": {**environment(), "threads": torch.get_num_threads()},
        "median_seconds_per_step": {n: statistics.median(s) for n, s in seconds.items()},
        "ratios": ratios,
        "bars": BARS,
        "within_bars": {pair: ratios[pair]["median"] <= bar for pair, bar in BARS.items()},
        "overhead_us_per_pass": {
            network: {m: overhead(make(), p, count, 5 * rounds) for m, p in methods.items()}
            for network, make in networks.items()
        },
        "floor_of_gnc": floor(resnet20()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, and fail where a bar is missed (not with --quick)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 workers of 2 images, 2 rounds")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    found = run(2, 2, 2) if options.quick else run(16, 32, options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for pair, each in found["ratios"].items():
        print(f"{pair:14} {each['median']:.3f}  ({each['low']:.3f} to {each['high']:.3f})")
    return 0 if options.quick or all(found["within_bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
