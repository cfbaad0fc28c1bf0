"""What Workers cost beside a hand-written accumulation loop: ResNet-20, 16 workers of 32 images.

    python benchmarks/workers.py            writes benchmarks/results/workers.json
    python benchmarks/workers.py --quick    a smoke test of a few seconds, whose numbers say nothing

Three ways of taking the same step run in turn, A B C A B C ..., in one process:

    loop        (loss / M).backward() for each micro-batch, as everybody writes it
    workers     Workers without perturbation
    gnc         Workers with GNC, filter-wise
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from apart import Given, overheads
from timing import RESULTS, header, in_turns, line, medians, memory_rates, options, ratio, write
from torch import Tensor, nn

import largebatch as lb
from largebatch.lab.models import resnet20

BARS = {"gnc/workers": 1.05, "gnc/loop": 1.06}
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


def apart(model: nn.Module, perturb: lb.Perturbation | None, count: int) -> Given:
    """What is timed outside forward and backward."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return Given(lb.Workers(model, optimizer, perturb, count=count))


def floor(model: nn.Module) -> dict[str, float]:
    """Bytes that GNC cannot do without, a pass, and how long this memory takes to move them.

    Filters (P bytes): read noise and weight, write copy and moved weight, read copy, write weight.
    All (N bytes): read gradient, write slot; at the end of the step read and write it.
    """
    filters = sum(p.nbytes for p in model.parameters() if p.ndim >= 2)
    everything = sum(p.nbytes for p in model.parameters())
    moved = 6 * filters + 4 * everything
    rate = memory_rates(16 * everything // 4)["copy"]  # as large as the slots: not in a cache
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
    times = in_turns({name: partial(step, *batch) for name, step in ways.items()}, rounds)
    pairs = ("workers/loop", "gnc/workers", "gnc/loop")
    ratios = {pair: ratio(*(times[name] for name in pair.split("/"))) for pair in pairs}
    networks = {"resnet20": resnet20, "small_cnn": small_cnn}
    methods = {"workers": None, "gnc": gnc}
    return {
        **header("workers", {"workers": count, "images_per_worker": each, "rounds": rounds}),
        "median_seconds_per_step": medians(times),
        "ratios": ratios,
        "bars": BARS,
        "within_bars": {pair: ratios[pair]["median"] <= bar for pair, bar in BARS.items()},
        "overhead_us_per_pass": {
            network: overheads({m: apart(make(), p, count) for m, p in methods.items()}, 5 * rounds)
            for network, make in networks.items()
        },
        "floor_of_gnc": floor(resnet20()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, and fail where a bar is missed (not with --quick)."""
    chosen = options(__doc__, "workers.json", rounds=15).parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    found = run(2, 2, 2) if chosen.quick else run(16, 32, chosen.rounds)
    write(found, chosen.out or RESULTS / "workers.json")
    for pair, each in found["ratios"].items():
        print(line(pair, each))
    return 0 if chosen.quick or all(found["within_bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
