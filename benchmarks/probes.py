"""What probes cost beside a step, or a gradient, of the same network.

    python benchmarks/probes.py --threads 1      writes benchmarks/results/probes.json
    python benchmarks/probes.py --device cuda    writes benchmarks/results/probes_cuda.json
    python benchmarks/probes.py --quick          a smoke test, whose numbers say nothing
    python benchmarks/probes.py --table          prints rows for the documentation from the file

Probes of steps: one model, one optimizer, one Workers; a probe is switched on for a step and off
for the next, so that where tensors lie is the same for all. Two numbers each: the ratio of
neighbouring steps, with and without; and the share of a step's processor time that is spent in the
probe's own calls, which other work on the machine touches less (on one thread of a CPU only).
`every=10` is timed over ten steps. `every for 1%` is the least `every` at which that share comes to
a hundredth of a step; what is spent in steps that are not measured is in it.

Probes of a point: beside one gradient of the batch that they look at, and the number of gradients
or Hessian products that this comes to is theirs to say.

A new probe adds a line to STEPS or POINTS.

Floor: NoiseScale must read every worker's gradient once and the mean, (M + 1) times the bytes of
the parameters; the file holds how long this memory takes to be read so often, beside the step.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from switched import EACH, Scene, clocked, median, switch
from timing import (
    RESULTS,
    header,
    in_turns,
    keep_freed_memory,
    line,
    medians,
    memory_rates,
    options,
    ratio,
    write,
)
from torch import nn

import largebatch as lb
from largebatch import probes
from largebatch.lab.models import ResNet

BAR = 1.01  # NoiseScale's, at the `every` that the table says


Probe = Callable[[Scene], Any]
# Probes of steps: made for a scene. Those that attach to optimizers are clocked there.
STEPS: dict[str, Probe] = {
    "NoiseScale": lambda s: lb.NoiseScale(EACH),
    "NoiseScale, not measured": lambda s: lb.NoiseScale(EACH, every=10**9),
    "NoiseScale, sign": lambda s: lb.NoiseScale(EACH, geometry=["sign"]),
    "NoiseScale, spectral": lambda s: lb.NoiseScale(EACH, geometry=["spectral"]),
    "BlockNorms": lambda s: probes.BlockNorms(),
    "UpdateSize": lambda s: probes.UpdateSize(s.model),
    "PathSmoothness": lambda s: probes.PathSmoothness(s.model, s.loss, s.batch),
}
SLOW = {"NoiseScale, spectral", "PathSmoothness"}  # fewer rounds of these
# Probes of a point: called, beside a gradient of the same batch.
POINTS: dict[str, Callable[[Scene], object]] = {
    "gradient_cosine": lambda s: probes.gradient_cosine(
        s.model, s.loss, s.batch, [torch.ones_like(p) for p in s.model.parameters()]
    ),
    "gradient_size, two sizes": lambda s: probes.gradient_size(
        s.model, s.loss, s.batch, [EACH, len(s.batch[0])], chunk=EACH
    ),
    "discarded_gradient, two shares": lambda s: probes.discarded_gradient(
        s.model, s.losses, s.batch, [0, 50]
    ),
    "perturbed_loss, four places": lambda s: probes.perturbed_loss(
        s.model, s.loss, s.batch, 4 * [nullcontext]
    ),
    "smoothness": lambda s: probes.smoothness(s.model, s.loss, s.batch, 0.1),
    "curvature_radius, two weights a layer": lambda s: probes.curvature_radius(
        s.model, s.loss, s.batch, weights=2
    ),
    "distance_to_minimum, two weights a layer": lambda s: probes.distance_to_minimum(
        s.model, s.loss, s.batch, weights=2
    ),
    "hessian, one eigenvalue, 4 samples": lambda s: probes.hessian(
        s.model, s.loss, s.batch, k=1, iterations=4, samples=4
    ),
    "loss_line": lambda s: probes.loss_line(s.model, s.loss, s.batch),
    "loss_plane, 3 x 3": lambda s: probes.loss_plane(
        s.model, s.loss, s.batch, positions_a=[-1.0, 0.0, 1.0], positions_b=[-1.0, 0.0, 1.0]
    ),
}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet20": (lambda: ResNet(20, classes=10), (3, 32, 32)),
    "mlp": (
        lambda: nn.Sequential(
            *(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()),
            nn.Linear(1024, 10),
        ),
        (784,),
    ),
}


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `--quick` takes little."""

    count: int = 4
    rounds: int = 15
    tens: int = 3


QUICK = Sizes(2, 2, 2)


def of_steps(scene: Scene, names: Collection[str], rounds: int, device: str) -> dict[str, Any]:
    """Some probes of STEPS, switched on in turns with none."""
    made = {name: clocked(scene, make(scene)) for name, make in STEPS.items() if name in names}
    on: list[Any] = []

    def before(name: str) -> None:
        while on:
            on.pop().remove()
        if name in made:
            on.append(switch(scene, made[name]))

    scene.step()  # step 0 is measured by every=10**9 too
    plain: list[float] = []

    def timed() -> None:
        start = time.thread_time()
        scene.step()
        plain.append(time.thread_time() - start)

    ways = {"plain": timed, **dict.fromkeys(made, scene.step)}
    times = in_turns(ways, rounds, before, device)
    before("plain")
    found = {}
    for name, probe in made.items():
        spent = probe.clock.calls
        share = median(spent, rounds) / statistics.median(plain[-rounds:])
        found[name] = {**ratio(times[name], times["plain"]), "share_of_step": share}
    return {"median_seconds_per_step": medians(times), "ratios": found}


def of_tens(scene: Scene, sizes: Sizes, device: str) -> dict[str, float]:
    """NoiseScale(every=10), over ten steps."""
    probe, on = lb.NoiseScale(EACH, every=10), []

    def before(name: str) -> None:
        while on:
            on.pop().remove()
        if name != "plain":
            on.append(scene.workers.listen(probe))

    def ten() -> None:
        for _ in range(10):
            scene.step()

    times = in_turns({"plain": ten, "every=10": ten}, sizes.tens, before, device)
    before("plain")
    return ratio(times["every=10"], times["plain"])


def of_points(scene: Scene, sizes: Sizes, device: str) -> dict[str, Any]:
    """Every probe of POINTS, over a gradient."""

    def way(look: Callable[[Scene], object]) -> Callable[[], object]:
        return lambda: look(scene)

    ways = {"gradient": scene.gradient, **{name: way(look) for name, look in POINTS.items()}}
    times = in_turns(ways, sizes.tens, device=device)  # of which many are many gradients long
    return {name: ratio(times[name], times["gradient"]) for name in POINTS}


def least_every(each: dict[str, Any]) -> int:
    """The least `every` that keeps a step's share within a hundredth."""
    idle = each["NoiseScale, not measured"]["share_of_step"]
    measured = each["NoiseScale"]["share_of_step"]
    left = BAR - 1 - idle
    return max(1, math.ceil((measured - idle) / left)) if left > 0 else -1


def run(name: str, sizes: Sizes, device: str) -> dict[str, Any]:
    """One network, as it is written to the file."""
    make, shape = NETWORKS[name]
    scene = Scene(make, shape, sizes.count).to(device)
    steps = of_steps(scene, set(STEPS) - SLOW, sizes.rounds, device)
    slow = of_steps(scene, SLOW, sizes.tens, device)["ratios"]
    steps["ratios"] = {**steps["ratios"], **slow}
    count = sum(p.numel() for p in scene.model.parameters())
    rate = memory_rates(max(count, 1 << 24), device)["read"]
    seconds = 4 * count * (sizes.count + 1) / rate
    floor = {
        "bytes": 4 * count * (sizes.count + 1),
        "bytes_per_second": rate,
        "share_of_step": seconds / steps["median_seconds_per_step"]["plain"],
    }
    return {
        "parameters": count,
        **steps,
        "every=10, over ten steps": of_tens(scene, sizes, device),
        "least_every_for_one_percent": least_every(steps["ratios"]),
        "floor_of_noise_scale": floor,
        "points_over_a_gradient": of_points(scene, sizes, device),
    }


def rows(found: dict[str, Any]) -> list[str]:
    """One row a probe of steps, for the documentation."""
    made = []
    for name, part in found["parts"].items():
        for probe, each in part["ratios"].items():
            share = f"{100 * each['share_of_step']:.2f}%"
            made.append(f"| {name} | {probe} | {each['median']:.3f} | {share} |")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Measure, write and print."""
    parser = options(__doc__, "probes.json, probes_cuda.json", rounds=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--table", action="store_true", help="the rows of the page, measured last")
    chosen = parser.parse_args(arguments)
    cuda = chosen.device.startswith("cuda")
    path: Path = chosen.out or RESULTS / ("probes_cuda.json" if cuda else "probes.json")
    if chosen.table:
        print("\n".join(rows(json.loads(path.read_text("utf-8")))))
        return 0
    torch.set_num_threads(chosen.threads)
    sizes = QUICK if chosen.quick else Sizes()
    if chosen.rounds:
        sizes = Sizes(sizes.count, chosen.rounds, max(1, chosen.rounds // 3))
    settings = {
        "device": chosen.device,
        "workers": sizes.count,
        "images_per_worker": EACH,
        "rounds": sizes.rounds,
        "freed_memory_is_kept": keep_freed_memory(),
    }
    parts = {name: run(name, sizes, chosen.device) for name in NETWORKS}
    write({**header("probes", settings, chosen.device), "parts": parts}, path)
    for name, part in parts.items():
        for probe, each in part["ratios"].items():
            print(line(f"{name}: {probe}", each, f"share {each['share_of_step']:.4f}"))
        print(line(f"{name}: every=10", part["every=10, over ten steps"]))
        floor = part["floor_of_noise_scale"]["share_of_step"]
        every = part["least_every_for_one_percent"]
        print(f"{name}: floor of NoiseScale {floor:.4f} of a step, every={every} for 1%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
