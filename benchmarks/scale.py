"""What Workers cost at scale: over DDP, beside the plain loop, and with thousands of workers.

    python benchmarks/scale.py --threads 1      writes benchmarks/results/scale.json
    python benchmarks/scale.py --device cuda    writes benchmarks/results/scale_cuda.json
    python benchmarks/scale.py --quick          a smoke test, whose numbers say nothing
    python benchmarks/scale.py --table          prints the rows of docs/step.md from the file

ddp     GNC over DDP against plain DDP: two processes on gloo, a thread and 64 images each; the same
        with four micro-batches a process (`over_ddp.py`)
loop    Workers without a perturbation against the plain loop, on one and the same model
many    4,096 simulated workers against 16, noise in float32 and bfloat16; in groups of 128 at once
        against one after another, and against a plain step on as many examples (`many.py`)
cuda    the micro-batch loop with and without CUDA graphs against one plain step (`launches.py`)

Freed memory is kept, for all ways alike (`timing.keep_freed_memory`). The error of a median is
1.25 standard deviations of the ratios over the root of their number.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launches
import many
import torch
from over_ddp import MICRO, ddp_in_turns
from timing import (
    RESULTS,
    Times,
    header,
    in_turns,
    keep_freed_memory,
    line,
    medians,
    options,
    ratio,
    write,
)
from torch import nn
from workers import small_cnn

import largebatch as lb
from largebatch.lab.models import ResNet, digits_cnn

RANKS = 2
BARS = {
    "ddp: gnc/ddp": 1.05,
    f"ddp: gnc x {MICRO}/ddp x {MICRO}": 1.05,
    "loop, 1 worker: workers/loop": 1.01,
    "loop, 16 workers: workers/loop": 1.01,
    "many, digits_cnn: many/few, float32": 1.10,
    "many, digits_cnn: many/few, bfloat16": 1.10,
    "many, small_cnn: many/few, float32": 1.10,
    "many, small_cnn: many/few, bfloat16": 1.10,
    "many, digits_cnn: at once/workers": 1.0,
    "many, small_cnn: at once/workers": 1.0,
    "cuda: gnc graphed/plain": 2.0,
}
PROBLEMS = (
    many.Problem("digits_cnn", digits_cnn, (1, 8, 8), images=4),
    many.Problem("small_cnn", small_cnn, (3, 32, 32), images=1),
)


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `--quick` takes little."""

    depth: int = 20
    ddp: tuple[int, int] = (64, 60)  # images of a process, rounds
    loops: tuple[tuple[int, int, int], ...] = ((1, 128, 120), (16, 32, 40))  # workers, images each
    many: tuple[int, int, int] = (16, 4096, 10)
    cuda: tuple[tuple[int, int, int], ...] = ((16, 32, 50), (64, 8, 30))

    def with_rounds(self, rounds: int) -> Sizes:
        """As many rounds of every part."""
        loops, cuda = ([(*each[:2], rounds) for each in part] for part in (self.loops, self.cuda))
        ddp, thousands = (self.ddp[0], rounds), (*self.many[:2], rounds)
        return Sizes(self.depth, ddp, tuple(loops), thousands, tuple(cuda))


QUICK = Sizes(8, (2, 2), ((1, 4, 2), (16, 1, 2)), (2, 4, 2), ((2, 2, 2),))


def compared(times: Times, pairs: dict[str, tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Ratios, with the error of their medians."""
    found = {}
    for pair, (above, below) in pairs.items():
        each = [a / b for a, b in zip(times[above], times[below], strict=True)]
        error = 1.25 * statistics.stdev(each) / len(each) ** 0.5
        found[pair] = {**ratio(times[above], times[below]), "error_of_median": error}
    return found


def over_ddp(depth: int, images: int, rounds: int) -> dict[str, Any]:
    """GNC and Workers over DDP against DDP alone."""
    times = ddp_in_turns(RANKS, {"depth": depth, "images": images, "rounds": rounds})
    pairs = {f"{above}/ddp": (above, "ddp") for above in ("workers", "gnc")}
    several = f"gnc x {MICRO}", f"ddp x {MICRO}"
    return {
        "processes": RANKS,
        "images_per_worker": images,
        "median_seconds_per_step": medians(times),
        "ratios": compared(times, {**pairs, "/".join(several): several}),
    }


def beside_loop(depth: int, count: int, images: int, rounds: int) -> dict[str, Any]:
    """Workers against the loop, on one model: where tensors lie is worth a percent as well."""
    torch.manual_seed(0)
    model, loss_of = ResNet(depth, classes=10), nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    workers = lb.Workers(model, optimizer, count=count)
    x, y = torch.randn(count * images, 3, 32, 32), torch.randint(10, (count * images,))

    def loop() -> None:
        optimizer.zero_grad()
        for xi, yi in zip(x.chunk(count), y.chunk(count), strict=True):
            (loss_of(model(xi), yi) / count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def ours() -> None:
        workers.backward(lambda x, y: loss_of(model(x), y), x, y)
        optimizer.step()

    times = in_turns({"loop": loop, "workers": ours}, rounds)
    return {
        "images_per_worker": images,
        "median_seconds_per_step": medians(times),
        "ratios": compared(times, {"workers/loop": ("workers", "loop")}),
    }


def on_cpu(sizes: Sizes) -> dict[str, Any]:
    """The parts, by name."""
    loops = {
        f"loop, {n} worker{'s' * (n > 1)}": beside_loop(sizes.depth, n, each, rounds)
        for n, each, rounds in sizes.loops
    }
    thousands = {f"many, {each.name}": many.run(each, *sizes.many) for each in PROBLEMS}
    return {"ddp": over_ddp(sizes.depth, *sizes.ddp), **loops, **thousands}


def on_gpu(sizes: Sizes, device: str) -> dict[str, Any]:
    """The same for a GPU; the first batch is the one with a bar."""
    names = ("cuda", *(f"cuda, {count} x {each}" for count, each, _ in sizes.cuda[1:]))
    found = (launches.run(sizes.depth, *each, device) for each in sizes.cuda)
    return dict(zip(names, found, strict=True))


def rows(found: dict[str, Any]) -> list[str]:
    """One row a ratio that has a bar, for the documentation."""
    made = []
    for name, bar in found["bars"].items():
        part, pair = name.split(": ")
        each = found["parts"][part]["ratios"][pair]
        low_to_high = f"{each['low']:.2f} to {each['high']:.2f}"
        made.append(f"| {part} | {pair} | {each['median']:.3f} | {low_to_high} | {bar:.2f} |")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, and fail where a bar is missed (not with --quick)."""
    parser = options(__doc__, "scale.json, scale_cuda.json", rounds=0)  # 0: as many as Sizes says
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--table", action="store_true", help="the rows of the page, measured last")
    chosen = parser.parse_args(arguments)
    cuda = chosen.device.startswith("cuda")
    path: Path = chosen.out or RESULTS / ("scale_cuda.json" if cuda else "scale.json")
    if chosen.table:
        print("\n".join(rows(json.loads(path.read_text("utf-8")))))
        return 0
    torch.set_num_threads(chosen.threads)
    sizes = QUICK if chosen.quick else Sizes()
    if chosen.rounds:
        sizes = sizes.with_rounds(chosen.rounds)
    kept = keep_freed_memory()
    parts = on_gpu(sizes, chosen.device) if cuda else on_cpu(sizes)
    ratios = {
        f"{part}: {pair}": r for part, of in parts.items() for pair, r in of["ratios"].items()
    }
    bars = {name: bar for name, bar in BARS.items() if name in ratios}
    within = {name: ratios[name]["median"] <= bar for name, bar in bars.items()}
    settings = {"device": chosen.device, "freed_memory_is_kept": kept}
    found = {**header("scale", settings, chosen.device), "parts": parts}
    write({**found, "bars": bars, "within_bars": within}, path)
    for name, each in ratios.items():
        print(line(name, each, f"bar {bars[name]}" if name in bars else ""))
    return 0 if chosen.quick or all(within.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
