"""How the gradient shrinks as the batch grows: CURV's Figures 3, 4, 7 and 9, theory beside them.

    python benchmarks/curv_figures.py            writes benchmarks/results/curv_figures.json
    python benchmarks/curv_figures.py --quick    a smoke test on digits: its numbers say nothing

AlexNet on CIFAR-10 at its first update, batches of 32 to all 50,000 images, and in its first epoch,
32 to 16,384. The measuring is `largebatch train --probe`, one short run a folder of
docs/results/curv-first-update; a run that is there is not repeated (2 to 10 minutes of one core
each else). Here the first update's rows are held against

    zero      E|g| = sigma·√(2/(pi·n)), E g² = sigma²/n     [4], corrected, and [8]
    mean      each weight with its own deviation and mean, n of N examples: the probe's
              `expected_magnitude`, and E g² = mean G² + sigma²·(1/n - 1/N)

sigma: one example's deviation, root mean square over the layer. In the first update of momentum SGD
the buffer is the gradient, so that Fig. 4's E|Delta w|/eta is Fig. 3's E|g|. Its mean over the
first epoch is measured: the momentum builds up, and the gradient is no longer the initial one.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from timing import RESULTS, header, options, write

from largebatch import theory
from largebatch.lab.batches import batches
from largebatch.lab.config import RunConfig
from largebatch.lab.recipes import recipe
from largebatch.lab.records import read_lines
from largebatch.lab.setup import losses_of, make_training, plan_run
from largebatch.lab.train import train

RUNS = Path(__file__).parents[1] / "docs" / "results" / "curv-first-update"
FIRST, SECOND = "classifier.1.weight", "classifier.4.weight"
SEEDS = 1  # networks; one costs a gradient of all images
# Batch sizes of first epochs, and of how many steps one is measured: about a hundred in all. Above
# 25,000 images the first epoch is the first update.
EPOCHS = {32: 16, 128: 4, 512: 1, 2048: 1, 8192: 1, 16384: 1}
SAME = 16  # step that is held against that of other batch sizes
QUICK_EPOCHS = {32: 4, 256: 1}
Row = dict[str, Any]


def configs(quick: bool) -> dict[str, RunConfig]:
    """The runs by the names of their folders."""
    sizes = RunConfig(task="digits" if quick else "cifar10-alexnet", updates=1, evaluations=1)
    sizes = replace(sizes, probes=("gradient_size@start",))
    found = {f"sizes-{seed}": replace(sizes, seed=seed) for seed in range(SEEDS)}
    discarded = sizes if quick else recipe("curv-cifar10-8192")
    found["discarded-0"] = replace(
        discarded, updates=1, evaluations=1, probes=("discarded_gradient@start",)
    )
    epoch = replace(sizes if quick else discarded, updates=None, epochs=1, evaluations=1)
    for n, every in (QUICK_EPOCHS if quick else EPOCHS).items():
        # Workers share the epoch's last batch, of 848 images, evenly.
        worker = min(n, 1024 if n > 8192 else 512)
        found[f"epoch-{n}"] = replace(
            epoch, batch_size=n, worker_size=worker, probes=(f"update_size@{every}",)
        )
    return found


def rows(config: RunConfig, folder: Path) -> list[Row]:
    """What the run's probes saw; the run is made where it is not there."""
    if not (folder / "result.json").is_file():
        train(config, folder)
    return [row for row in read_lines(folder / "metrics.jsonl") if row["kind"] == "probe"]


def beside_theory(row: Row, layer: str) -> list[dict[str, float]]:
    """Measured sizes of one layer, batch size by batch size, and both theories' over them."""
    k, examples = row["layers"].index(layer), row["examples"]
    sigma, square = row["deviation"][k], row["full_square"][k]
    found = []
    for i, n in enumerate(row["batch_sizes"]):
        found.append(
            {
                "batch_size": n,
                "batches": row["batches"][i],
                "magnitude": row["mean_magnitude"][i][k],
                "magnitude_zero": theory.mean_gradient_magnitude(sigma, n),
                "magnitude_mean": row["expected_magnitude"][i][k],
                "square": row["mean_square"][i][k],
                "square_zero": theory.mean_gradient_square(sigma, n),
                "square_mean": theory.mean_gradient_square(
                    sigma, n, mean_square=square, examples=examples
                ),
            }
        )
    return found


def first_epoch(seen: dict[str, list[Row]], layer: str) -> list[dict[str, Any]]:
    """Mean |Delta w| over the rate of a layer by batch size: of a first epoch, and of one update.

    The same update of each, since a small batch's epoch has hundreds and a large one's few; None
    where the epoch ends before it.
    """
    found: list[dict[str, Any]] = []
    for name, steps in seen.items():
        if name.startswith("epoch-"):
            k = steps[0]["layers"].index(layer)
            values = {step["step"]: step["mean_magnitude_over_lr"][k] for step in steps}
            n = int(name.removeprefix("epoch-"))
            means = {"mean": fmean(values.values()), "same_update": values.get(SAME)}
            found.append({"batch_size": n, "measured_steps": len(values), **means})
    return found


def noise_scale(row: Row, layer: str) -> float:
    """The batch size at which noise and mean are equally large: sigma²/(mean G²)."""
    k = row["layers"].index(layer)
    return float(row["deviation"][k] ** 2 / row["full_square"][k])


def discarded(row: Row, layer: str) -> dict[str, float]:
    """Mean size of the gradient after each share of small losses, over that of the whole batch."""
    k = row["layers"].index(layer)
    sizes = [each[k] for each in row["mean_magnitude"]]
    return {f"{share:g}": each / sizes[0] for share, each in zip(row["shares"], sizes, strict=True)}


def classes_left(config: RunConfig) -> dict[str, Any]:
    """How far an example's loss follows from its class alone, and who is left of each class."""
    plan = plan_run(config, None)
    training = make_training(config, plan)
    _, x, y = next(batches(config, plan, 0))
    with torch.no_grad():
        looks = zip(x.split(1024), y.split(1024), strict=True)
        losses = torch.cat([losses_of(plan.task)(training.model(x), y) for x, y in looks])
    means = torch.stack([losses[y == c].mean() for c in range(10)])
    order = losses.argsort(descending=True)
    left = {p: order[: len(order) - p * len(order) // 100] for p in (0, 10, 30, 50, 90)}
    return {
        "variance_between_classes": float(means[y].var() / losses.var()),
        "examples_by_class": {
            p: y[kept].bincount(minlength=10).tolist() for p, kept in left.items()
        },
    }


def run(quick: bool, folder: Path) -> dict[str, Any]:
    """Everything, as it is written to the file."""
    seen = {name: rows(config, folder / name) for name, config in configs(quick).items()}
    sizes = [rows_[0] for name, rows_ in seen.items() if name.startswith("sizes")]
    left = seen["discarded-0"][0]
    layers = [n for n in sizes[0]["layers"] if n.endswith("weight")]
    at = configs(quick)["discarded-0"]
    return {
        **header("curv_figures", {"runs": list(seen), "layers": layers}),
        "beside_theory": {n: [beside_theory(row, n) for row in sizes] for n in layers},
        "first_epoch": {n: first_epoch(seen, n) for n in layers},
        "noise_scale": {n: [noise_scale(row, n) for row in sizes] for n in layers},
        "discarded": {n: discarded(left, n) for n in layers},
        "discarded_by_class": classes_left(at),
    }


def table(found: dict[str, Any], layer: str, field: str) -> list[str]:
    """A layer's sizes as lines of Markdown: means over the runs."""
    lines = [f"| n | {field} | zero | measured/zero | mean | measured/mean |", "|---" * 6 + "|"]
    for each in zip(*found["beside_theory"][layer], strict=True):
        value, zero, mean = (
            fmean(one[name] for one in each) for name in (field, f"{field}_zero", f"{field}_mean")
        )
        n = each[0]["batch_size"]
        ratios = f"{value / zero:.2f} | {mean:.2e} | {value / mean:.2f}"
        lines.append(f"| {n:,} | {value:.2e} | {zero:.2e} | {ratios} |")
    return lines


def epoch_table(found: dict[str, Any], layer: str) -> list[str]:
    """A layer's first epochs as lines of Markdown, beside a fall as 1/sqrt(n)."""
    each = found["first_epoch"][layer]
    start = each[0]["mean"] * each[0]["batch_size"] ** 0.5
    head = f"mean abs(delta w)/eta, first epoch | over 1/sqrt(n) | in update {SAME + 1}"
    lines = [f"| n | {head} |", "|---" * 4 + "|"]
    for one in each:
        n, mean, same = one["batch_size"], one["mean"], one["same_update"]
        there = "-" if same is None else f"{same:.2e}"
        lines.append(f"| {n:,} | {mean:.2e} | {mean * n**0.5 / start:.2f} | {there} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Measure what is not there, compare and write."""
    parser = options(__doc__, "curv_figures.json", rounds=1)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.quick:
        with tempfile.TemporaryDirectory() as folder:
            found = run(True, Path(folder))
    else:
        found = run(False, chosen.runs)
    write(found, chosen.out or RESULTS / "curv_figures.json")
    layers = found["settings"]["layers"]
    for layer in (FIRST, SECOND) if FIRST in layers else layers[-1:]:
        print(
            f"\n{layer}: noise scale {', '.join(f'{n:,.0f}' for n in found['noise_scale'][layer])}"
        )
        print("\n".join([*table(found, layer, "magnitude"), "", *table(found, layer, "square")]))
        print("\n".join(["", *epoch_table(found, layer)]))
        print("discarded:", {p: round(x, 2) for p, x in found["discarded"][layer].items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
