"""What a growing batch saves: whole runs on digits, at the small batch, growing, at the large one.

    python benchmarks/growth.py            writes benchmarks/results/growth.json
    python benchmarks/growth.py --quick    a smoke test of a few seconds, whose numbers say nothing

Momentum SGD, 40 epochs; the batch stays at 64, doubles at even intervals from 64 to 1,024, or is
1,024 throughout. What accuracy each ends at, docs/results/growth says.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, header, in_turns, line, medians, options, ratio, write

from largebatch.lab.config import RunConfig
from largebatch.lab.growth import doubling
from largebatch.lab.setup import plan_run
from largebatch.lab.train import train

SMALL, LARGE = 64, 1024


def ways(epochs: int, threads: int) -> dict[str, RunConfig]:
    """The three runs; each is scored once, at its end."""
    small = RunConfig(batch_size=SMALL, lr=0.28, epochs=epochs, evaluations=1, threads=threads)
    large = replace(small, batch_size=LARGE)
    grown = replace(large, batches=doubling(SMALL, LARGE, epochs))
    return {"small": small, "growing": grown, "large": large}


def timed(config: RunConfig, out: Path) -> Callable[[], object]:
    """The run in a new folder each time: a finished one would not be repeated."""
    count = iter(range(1_000_000))
    return lambda: train(config, out / f"{config.name()}-{next(count)}")


def run(epochs: int, rounds: int, threads: int) -> dict[str, Any]:
    """Everything, as it is written to the file."""
    configs = ways(epochs, threads)
    with tempfile.TemporaryDirectory() as folder:
        steps = {name: timed(config, Path(folder)) for name, config in configs.items()}
        times = in_turns(steps, rounds)
    updates = {name: plan_run(config, None).steps for name, config in configs.items()}
    return {
        **header("growth", {"epochs": epochs, "small": SMALL, "large": LARGE, "rounds": rounds}),
        "updates": updates,
        "median_seconds": medians(times),
        "ratios": {f"{n}/small": ratio(times[n], times["small"]) for n in ("growing", "large")},
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and write."""
    chosen = options(__doc__, "growth.json", rounds=11).parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    found = run(2 if chosen.quick else 40, 1 if chosen.quick else chosen.rounds, chosen.threads)
    write(found, chosen.out or RESULTS / "growth.json")
    for name, each in found["ratios"].items():
        print(line(name, each, f"{found['updates'][name.split('/')[0]]} updates"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
