"""What the benchmarks share: timing in turns, ratios of neighbours in time, and the written result.

Ways of doing the same thing run A B C A B C ... in one process, so that whatever else the machine
does falls on all of them; what counts is the ratio of neighbours, not the time.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from largebatch.lab.environment import environment

__all__ = [
    "header",
    "in_turns",
    "keep_freed_memory",
    "line",
    "medians",
    "memory_rates",
    "options",
    "ratio",
    "seconds",
    "write",
]

RESULTS = Path(__file__).parent / "results"
WARM_UP = 3  # rounds that do not count: buffers are allocated, kernels compiled
Step = Callable[[], object]
Times = dict[str, list[float]]


def seconds(step: Step, device: str = "cpu") -> float:
    """How long one call takes; on a GPU from its first kernel to its last, gaps included."""
    if not device.startswith("cuda"):
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    step()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1e3


def in_turns(
    ways: Mapping[str, Step],
    rounds: int,
    before: Callable[[str], object] = lambda name: None,
    device: str = "cpu",
) -> Times:
    """Seconds of each way in each round; `before(name)` runs ahead of each step, untimed."""
    times: Times = {name: [] for name in ways}
    for _ in range(rounds + WARM_UP):
        for name, step in ways.items():
            before(name)
            times[name].append(seconds(step, device))
    return {name: each[WARM_UP:] for name, each in times.items()}


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory rather than give it back; False where it cannot be told.

    Else whether a step's activations are given back and taken anew is a matter of luck, which a few
    bytes on the heap decide: 0 to 20,000 page faults a step of ResNet-20, up to 6% of its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # malloc.h of glibc
    return bool(mallopt(mmap_threshold, 2**30) and mallopt(trim_threshold, 2**31 - 1))


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Median and range of the ratios of neighbours in time."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def medians(times: Times) -> dict[str, float]:
    return {name: float(statistics.median(each)) for name, each in times.items()}


def memory_rates(count: int, device: str = "cpu") -> dict[str, float]:
    """Bytes per second that a copy moves (reads and writes) and that a sum reads.

    `count` floats are copied; take more than the caches hold.
    """
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    ways: dict[str, Step] = {"copy": lambda: target.copy_(source), "read": source.sum}
    spent = medians(in_turns(ways, 7, device=device))
    return {"copy": 2 * source.nbytes / spent["copy"], "read": source.nbytes / spent["read"]}


def options(description: str | None, out: str, rounds: int) -> argparse.ArgumentParser:
    """The arguments that every benchmark takes."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test: its numbers are void")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help=f"default: results/{out} beside the script")
    return parser


def header(benchmark: str, settings: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """How every result begins: what was run, and on what."""
    where = {**environment(device), "threads": torch.get_num_threads()}
    return {"format": 1, "benchmark": benchmark, "settings": settings, "environment": where}


def write(found: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def line(name: str, each: Mapping[str, float], *more: object) -> str:
    """A ratio as it is printed."""
    text = f"{name:38} {each['median']:.3f}  ({each['low']:.3f} to {each['high']:.3f})"
    return "  ".join([text, *map(str, more)])
