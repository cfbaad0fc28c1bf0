"""What noise in bfloat16 costs GNC in accuracy: digits at a batch of 1,024, 16 workers, 40 epochs.

    python benchmarks/noise_dtype.py --threads 1    writes benchmarks/results/noise_dtype.json
    python benchmarks/noise_dtype.py --quick        a smoke test, whose numbers say nothing

The lab's own runs, of which a seed has one for each dtype: the same weights, batches and rate. Rate
and alpha are those that docs/results/digits was tuned to, with noise in float32. Beside them the
same runs without a perturbation, which say how much there is to lose.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, header, options, write

from largebatch.lab.config import RunConfig, ScheduleConfig
from largebatch.lab.report.stats import estimate
from largebatch.lab.train import train

SEEDS = 20
# Method, rate, alpha: docs/results/digits/choices.json.
TUNED = (("gnc", 0.56, 0.4286), ("sngm+gnc", 1.0, 0.06928))
DTYPES = ("float32", "bfloat16")


def config(method: str, lr: float, alpha: float | None, dtype: str | None, seed: int) -> RunConfig:
    """A final run, as the comparison of docs/results/digits makes it."""
    return RunConfig(
        method=method,
        lr=lr,
        alpha=alpha,
        batch_size=1024,
        worker_size=64,
        schedule=ScheduleConfig(warmup_epochs=2.0),
        seed=seed,
        evaluations=1,
        noise_dtype=dtype,  # type: ignore[arg-type]
    )


def accuracy(asked: RunConfig) -> tuple[float, float | None]:
    """Of the test images, in percent, and how large offsets were beside the weights."""
    with tempfile.TemporaryDirectory() as folder:
        result = train(asked, Path(folder) / "run")
    if result["value"] is None:
        raise RuntimeError(f"{asked.method} with seed {asked.seed} diverged")
    return result["value"], result["offset_to_weight_norm"]


def summary(values: list[float]) -> dict[str, float]:
    """Mean and its 95% interval by Student's t."""
    found = estimate(values)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def compared(method: str, lr: float, alpha: float, seeds: int) -> dict[str, Any]:
    """One method's part of the results."""
    runs = {
        dtype: [accuracy(config(method, lr, alpha, dtype, seed)) for seed in range(seeds)]
        for dtype in DTYPES
    }
    without = method.removesuffix("gnc").rstrip("+") or "msgd"
    bare = [accuracy(config(without, lr, None, None, seed))[0] for seed in range(seeds)]
    values = {dtype: [value for value, _ in each] for dtype, each in runs.items()}

    def difference(a: list[float], b: list[float]) -> dict[str, float]:
        return summary([x - y for x, y in zip(a, b, strict=True)])

    sizes = [size for _, size in runs["float32"] if size is not None]
    return {
        "lr": lr,
        "alpha": alpha,
        "offset_to_weight_norm": sum(sizes) / len(sizes),
        "accuracy_percent": {**values, "without": bare},
        "means": {n: summary(each) for n, each in {**values, "without": bare}.items()},
        "bfloat16_minus_float32": difference(values["bfloat16"], values["float32"]),
        "float32_minus_without": difference(values["float32"], bare),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run, write, print."""
    parser = options(__doc__, "noise_dtype.json", rounds=SEEDS)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    seeds = 2 if chosen.quick else chosen.rounds
    methods = {m: compared(m, lr, alpha, seeds) for m, lr, alpha in TUNED}
    settings = {"seeds": seeds, "batch_size": 1024, "workers": 16, "epochs": 40}
    write(
        {**header("noise_dtype", settings), "methods": methods},
        chosen.out or RESULTS / "noise_dtype.json",
    )
    for name, of in methods.items():
        for pair in ("bfloat16_minus_float32", "float32_minus_without"):
            each = of[pair]
            interval = f"({each['low']:+.2f} to {each['high']:+.2f})"
            print(f"{name:10} {pair:24} {each['mean']:+.2f}  {interval}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
