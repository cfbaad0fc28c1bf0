"""What a step of each rule costs beside torch's fused one, on ResNet-50's and ViT-B/16's shapes.

    python benchmarks/optim.py --threads 2      writes benchmarks/results/optim.json
    python benchmarks/optim.py --device cuda    writes benchmarks/results/optim_cuda.json
    python benchmarks/optim.py --quick          a smoke test of a few seconds: its numbers are void

The rules of a group (`rules.py`) run in turns with their baseline, each on weights, gradients and
state of its own. Ahead of each step, untimed, a buffer larger than the caches is read, as a forward
and backward pass would: nobody starts on what the step before him, or he himself, left in a cache.
Shapes are those of torchvision's networks, kept in `shapes/`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rules import GROUPS, Group, Way, floors
from timing import RESULTS, header, in_turns, line, medians, memory_rates, options, ratio, write
from torch import Tensor, nn
from torch.optim import Optimizer

SHAPES = Path(__file__).parent / "shapes"
TINY = {"conv": [16, 3, 3, 3], "conv.bias": [16], "linear": [10, 16], "linear.bias": [10]}


def shapes(model: str) -> dict[str, list[int]]:
    """The shape of each parameter by its name."""
    if model == "tiny":
        return TINY
    found: dict[str, list[int]] = json.loads((SHAPES / f"{model}.json").read_text("utf-8"))
    return found


def drawn(model: str, size: float, device: str) -> list[Tensor]:
    source = torch.Generator(device).manual_seed(0)
    each = shapes(model).values()
    return [torch.randn(s, device=device, generator=source).mul_(size) for s in each]


def made(way: Way, weights: list[Tensor], gradients: list[Tensor]) -> Optimizer:
    """The rule on weights and gradients of its own."""
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer: Optimizer = way.make(parameters)
    return optimizer


def state_share(optimizer: Optimizer) -> float:
    """Bytes of state for each byte of parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
    distinct = {t.data_ptr(): t.nbytes for t in kept}  # one scale may serve all
    return sum(distinct.values()) / sum(p.nbytes for p in parameters)


def cold(group: Group, optimizers: dict[str, Optimizer], evict: Tensor) -> Callable[[str], None]:
    """What happens ahead of a step: the rule hears what it must, then the caches are emptied."""
    hears = {way.name: way.before for way in group.present}

    def before(name: str) -> None:
        hear = hears[name]
        if hear is not None:
            hear(optimizers[name])
        evict.sum()

    return before


def measure(group: Group, model: str, rounds: int, device: str, evict: Tensor) -> dict[str, Any]:
    """One group on one model's shapes."""
    weights, gradients = drawn(model, 0.02, device), drawn(model, 1e-3, device)
    optimizers = {way.name: made(way, weights, gradients) for way in group.present}
    steps = {name: optimizer.step for name, optimizer in optimizers.items()}
    times = in_turns(steps, rounds, cold(group, optimizers, evict), device)
    base = group.baseline.name
    names = [way.name for way in group.ways if way.name in times]
    found: dict[str, Any] = {
        "baseline": base,
        "median_seconds_per_step": medians(times),
        "ratios": {name: ratio(times[name], times[base]) for name in names},
        "state_bytes_per_parameter_byte": {n: state_share(o) for n, o in optimizers.items()},
    }
    if group.ours is not None:
        rivals = [way.name for way in group.ways if way.package and way.name in times]
        found["ours_over_rival"] = {r: ratio(times[group.ours], times[r]) for r in rivals}
    return found


def misses(found: dict[str, Any]) -> list[str]:
    """Each bar that a median is above, in words; a rival's bar is 1."""
    bars = {(g.name, way.name): way.bar for g in GROUPS for way in g.ways if way.bar}
    missed = []
    for model, groups in found["models"].items():
        for group, each in groups.items():
            over = {(name, bars.get((group, name))): r for name, r in each["ratios"].items()}
            beside = {(f"ours / {n}", 1.0): r for n, r in each.get("ours_over_rival", {}).items()}
            for (name, bar), ratios in {**over, **beside}.items():
                if bar is not None and not ratios["median"] <= bar:
                    missed.append(f"{model}: {name} at {ratios['median']:.3f}, bar {bar}")
    return missed


def versions() -> dict[str, str | None]:
    """The rivals' versions; None for one that is not installed."""
    ways = [way for group in GROUPS for way in group.ways if way.package]
    absent = {str(way.package): way.absent for way in ways}
    return {name: None if gone else metadata.version(name) for name, gone in absent.items()}


def run(chosen: Any, groups: list[Group]) -> dict[str, Any]:
    """Everything, as it is written to the file."""
    device, mib = chosen.device, chosen.evict_mib
    evict = torch.ones(mib << 18, device=device)
    settings = {"rounds": chosen.rounds, "device": device, "evict_mib": mib}
    models: dict[str, Any] = {model: {} for model in chosen.models}
    for model in models:
        for group in groups:
            models[model][group.name] = measure(group, model, chosen.rounds, device, evict)
            show(model, group, models[model][group.name])
    return {
        **header("optim", settings, device),
        "rivals": versions(),
        "memory_bytes_per_second": memory_rates(mib << 18, device),
        "parameters": {m: sum(math.prod(s) for s in shapes(m).values()) for m in models},
        "floors": {w.name: floors(w, g.baseline) for g in groups for w in g.ways if w.streams},
        "bars": {w.name: w.bar for g in groups for w in g.ways if w.bar},
        "models": models,
    }


def show(model: str, group: Group, found: dict[str, Any]) -> None:
    spent = found["median_seconds_per_step"][group.baseline.name]
    print(f"\n{model}, over {group.baseline.name} ({spent * 1e3:.2f} ms)")
    for way in group.ways:
        if way.absent:
            print(f"{way.name:38} {way.package} is not installed")
            continue
        floor, state = floors(way, group.baseline), found["state_bytes_per_parameter_byte"]
        bounds = f"floor {floor['bytes']:.2f}, reads {floor['reads_only']:.2f}" if floor else ""
        bar = f"bar {way.bar}" if way.bar else ""
        print(
            line(way.name, found["ratios"][way.name], f"state {state[way.name]:.2f}", bounds, bar)
        )
    for name, each in found.get("ours_over_rival", {}).items():
        print(line(f"{group.ours} / {name}", each))


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, and fail where a bar is missed (not with --quick)."""
    parser = options(__doc__, "optim.json, optim_cuda.json", rounds=15)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_b_16"])
    names = [group.name for group in GROUPS]
    parser.add_argument("--groups", nargs="+", choices=names, default=names)
    parser.add_argument("--evict-mib", type=int, default=1024, help="read ahead of each step")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.quick:
        chosen.models, chosen.rounds, chosen.evict_mib = ["tiny"], 2, 1
    found = run(chosen, [group for group in GROUPS if group.name in chosen.groups])
    found["missed"] = misses(found)
    cuda = "_cuda" if chosen.device.startswith("cuda") else ""
    write(found, chosen.out or RESULTS / f"optim{cuda}.json")
    if chosen.quick:
        return 0
    print("\n".join(["", *found["missed"]]) if found["missed"] else "\nevery bar is met")
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
