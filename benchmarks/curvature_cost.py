"""What curvature costs: MCLR's medians, and a refresh of CBLR's Hessian diagonal.

    python benchmarks/curvature_cost.py            writes benchmarks/results/curvature_cost.json
    python benchmarks/curvature_cost.py --quick    a smoke test: its numbers are void

Cost: steps and refreshes run in turns with a gradient (forward and backward pass) of the same
network, ResNet-20 on 128 images of 32 x 32; what counts is the ratio to the gradient. A refresh
every k steps adds ratio/k to each step: the file holds the k that adds a tenth.

Age: how well a diagonal taken some steps ago still points where today's does, on the digits. The
cosine of the two is given beside that of two estimates of one and the same diagonal (age 0: the
most that any pair can reach) and that of a single sample, which is what a refresh gets by default.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from timing import RESULTS, header, in_turns, line, medians, options, ratio, write
from torch import Tensor, nn

import largebatch as lb
from largebatch.curvature import hutchinson_diagonal
from largebatch.lab.models import digits_cnn, resnet20
from largebatch.lab.tasks.digits import digits

AGES = (0, 1, 2, 5, 10, 20, 50, 100)
STARTS = (0, 50, 200)  # steps of training at which a diagonal is taken
Batch = tuple[Tensor, Tensor]
Rule = Callable[..., Any]


def with_gradient(rule: Rule, batch: Batch) -> tuple[Any, Callable[[], Tensor]]:
    """The rule on a ResNet-20 that has a gradient, and the loss of that network."""
    torch.manual_seed(0)
    model = resnet20()
    optimizer = rule(model.parameters(), lr=1e-6)

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    loss().backward()  # type: ignore[no-untyped-call]
    return optimizer, loss


def ways(batch: Batch) -> dict[str, Callable[[], object]]:
    """A gradient, a refresh by either method, and a step of each rule."""
    sgd, loss = with_gradient(torch.optim.SGD, batch)

    def gradient() -> None:
        sgd.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]

    hessian, its_loss = with_gradient(lambda p, lr: lb.CBLR(p, lr=lr, diagonal="hessian"), batch)
    hessian.refresh(its_loss)
    steps = {
        "SGD step": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, fused=True),
        "LARS step": lb.LARS,
        "MCLR step": lb.MCLR,
        "CBLR step, ratio": lb.CBLR,
    }
    return {
        "gradient": gradient,
        "refresh, exact": lambda: hessian.refresh(its_loss),
        "refresh, differences": lambda: hessian.refresh(its_loss, method="differences"),
        "CBLR step, hessian": hessian.step,
        **{name: with_gradient(rule, batch)[0].step for name, rule in steps.items()},
    }


def cost(images: int, rounds: int) -> dict[str, Any]:
    batch = torch.randn(images, 3, 32, 32), torch.randint(10, (images,))
    times = in_turns(ways(batch), rounds)
    ratios = {n: ratio(t, times["gradient"]) for n, t in times.items() if n != "gradient"}
    every = {n: math.ceil(r["median"] / 0.1) for n, r in ratios.items() if n.startswith("refresh")}
    return {
        "median_seconds": medians(times),
        "over_a_gradient": ratios,
        "steps_between_refreshes_that_add_a_tenth": every,
    }


def cosine(a: list[Tensor], b: list[Tensor]) -> float:
    flat = [torch.cat([tensor.flatten() for tensor in each]) for each in (a, b)]
    return float(nn.functional.cosine_similarity(*flat, dim=0))


def age(starts: tuple[int, ...], ages: tuple[int, ...], samples: int, size: int) -> dict[str, Any]:
    """Cosines of diagonals over momentum SGD's training on digits, batches of 64."""
    torch.manual_seed(0)
    model, data = digits_cnn(), digits.load(None)
    x, y = data.train
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    def diagonal(step: int, count: int) -> list[Tensor]:
        those = list(model.parameters())
        return hutchinson_diagonal(
            lambda: loss(x[:size], y[:size]), those, samples=count, step=step
        )

    taken: dict[int, list[Tensor]] = {}
    found: dict[int, list[float]] = {a: [] for a in ages}
    single = []
    for step in range(max(starts) + max(ages) + 1):
        due = [a for a in ages if step - a in starts]
        if step in starts:
            taken[step] = diagonal(2 * step, samples)
            single.append(cosine(taken[step], diagonal(-1 - step, 1)))
        if due:
            now = diagonal(2 * step + 1, samples)
            for a in due:
                found[a].append(cosine(taken[step - a], now))
        some = torch.randint(len(y), (64,))
        optimizer.zero_grad()
        loss(x[some], y[some]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {
        "settings": {"samples": samples, "batch_size": size, "starts": list(starts)},
        "cosine_by_age_in_steps": {str(a): found[a] for a in ages},
        "cosine_of_a_single_sample": single,
    }


def main(arguments: list[str] | None = None) -> int:
    chosen = options(__doc__, "curvature_cost.json", rounds=15).parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    images, rounds = (2, 2) if chosen.quick else (128, chosen.rounds)
    found = {
        **header("curvature_cost", {"images": images, "rounds": rounds}),
        "cost": cost(images, rounds),
        "age": age((0, 1), (0, 1), 2, 32) if chosen.quick else age(STARTS, AGES, 64, 1024),
    }
    write(found, chosen.out or RESULTS / "curvature_cost.json")
    for name, each in found["cost"]["over_a_gradient"].items():
        print(line(name, each))
    for steps, cosines in found["age"]["cosine_by_age_in_steps"].items():
        print(f"{steps:>4} steps old: cosine {statistics.median(cosines):.3f}")
    print(f"single sample: {statistics.median(found['age']['cosine_of_a_single_sample']):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
