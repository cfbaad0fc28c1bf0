"""Run folders with rows of every probe, made by hand; no probe itself is called."""

import json
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

LAYERS = ["conv1.weight", "conv1.bias", "block.0.conv.weight", "block.0.norm.weight", "fc.weight"]
EPOCHS = 30
Row = dict[str, Any]


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Writes a run folder with rows; see :func:`write_run`."""
    return write_run


@pytest.fixture(scope="session")
def every_row() -> Callable[..., list[Row]]:
    """Rows of every probe."""
    return probe_rows


def write_run(
    folder: Path,
    method: str = "msgd",
    seed: int = 0,
    batch_size: int = 1024,
    rows: Sequence[Row] | None = None,
    only: Collection[str] | None = None,
    epochs: int = EPOCHS,
    every: int = 1,
    layers: Sequence[str] = LAYERS,
    **config: Any,
) -> Path:
    """`only`: names of probes to keep; `every`: epochs from one row to the next."""
    folder.mkdir(parents=True)
    schedule = {"kind": "multistep", "milestones": [18.0], "factor": 0.1, "collapse_epoch": None}
    asked: Row = {
        "task": "digits",
        "method": method,
        "batch_size": batch_size,
        "worker_size": 32,
        "lr": 0.4,
        "epochs": epochs,
        "schedule": schedule,
        "seed": seed,
        "split": "test",
        "device": "cpu",
    }
    (folder / "config.json").write_text(json.dumps(asked | config))
    (folder / "environment.json").write_text(json.dumps({"torch": "2.13.0", "cores": 2}))
    places = range(every, epochs + 1, every)
    lines = training_rows(method, seed, batch_size, epochs)
    if rows is None:
        rows = probe_rows(method, seed, batch_size, places, layers)
    lines += [row for row in rows if only is None or row["probe"] in only]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    result = {"status": "done", "metric": "accuracy_percent", "value": 91.5, "updates": epochs * 4}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def training_rows(method: str, seed: int, batch_size: int, epochs: int) -> list[Row]:
    luck = random.Random(f"{method}{seed}{batch_size}")
    speed = luck.uniform(6, 12) * (64 / batch_size) ** 0.1
    lines: list[Row] = []
    for epoch in range(1, epochs + 1):
        done = 1 - math.exp(-speed * epoch / epochs)
        loss = 2.3 * (1 - done) + 0.02 + luck.random() * 0.05
        place = {"step": 4 * epoch, "epoch": float(epoch)}
        lines.append({"kind": "train", **place, "loss": loss, "lr": 0.4})
        score = 10 + 83 * done + luck.gauss(0, 0.5)
        scored = {"loss": loss * 1.2, "accuracy_percent": score, "seconds": 0.1}
        lines.append({"kind": "eval", **place, "split": "test", **scored})
    return lines


def probe_rows(
    method: str = "msgd",
    seed: int = 0,
    batch_size: int = 1024,
    places: Collection[int] = range(1, EPOCHS + 1),
    layers: Sequence[str] = LAYERS,
) -> list[Row]:
    """A row of every probe at each epoch in `places`; plausible, and another for each run."""
    noise = random.Random(f"{method}{seed}{batch_size}")
    size = noise.uniform(0.6, 1.6)
    rows: list[Row] = []
    for epoch in places:
        share = epoch / max(places)
        for name, fields in _fields(noise, size, share, epoch, batch_size, list(layers)).items():
            for probe in (name, *ALIKE.get(name, ())):
                place = {"kind": "probe", "probe": probe, "step": 4 * epoch, "epoch": float(epoch)}
                rows.append({**place, **fields})
    return rows


# Probes whose rows have another's form.
ALIKE = {
    "noise_covariance": ["offset_covariance"],
    "alignment": ["offset_alignment"],
    "noise_scale": ["spectral_noise_scale"],
}


def _fields(
    noise: random.Random, size: float, share: float, epoch: int, batch: int, layers: list[str]
) -> Mapping[str, Row]:
    def about(value: float) -> float:
        return value * math.exp(noise.gauss(0, 0.12))

    def each(value: float) -> list[float]:
        return [about(value * (k + 1)) for k in range(len(layers))]

    loss = 2.3 * math.exp(-4 * share) + 0.05
    low = 0.5 if epoch > 18 else 1.0
    sizes = [32, 128, 512, 2048, 8192]
    sigma = [0.02 * (k + 1) for k in range(len(layers))]
    lengths = [0.5 + 1.5 * k / 7 for k in range(8)]

    def bands(scale: float) -> Row:
        losses = [loss * (1 + scale * about(0.1) * r) for r in lengths]
        changes = [about(scale * r) for r in lengths]
        ratios = [about(10 * scale) for _ in lengths]
        return {
            "rates": lengths,
            "losses": losses,
            "gradient_distances": changes,
            "ratios": ratios,
            "loss_range": [min(losses), max(losses)],
            "gradient_range": [min(changes), max(changes)],
            "largest_ratio": max(ratios),
        }

    span = [k / 10 - 1 for k in range(21)]
    return {
        "gradient_cosine": {
            "cosine": min(0.98, about(0.8 * low)),
            "layers": layers,
            "layer_cosines": [min(0.99, about(0.7 * low)) for _ in layers],
        },
        "noise_covariance": {
            "layers": layers,
            "condition": [v * 40 * size for v in each(1 + 5 * share)],
            "isotropic_condition": [1.5 + 0.1 * k for k in range(len(layers))],
            "percentiles": [0, 25, 50, 75, 100],
            "eigenvalues": [[about(10 ** (k - 4)) for k in range(5)] for _ in layers],
        },
        "perturbed_loss": {
            "loss": loss,
            "worker_losses": [loss * (1 + noise.uniform(0, 0.3 * size)) for _ in range(16)],
        },
        "smoothness": bands(size) | {"convolved": bands(0.5 * size)},
        "curvature_radius": {
            "layers": layers,
            "mean_radius": each(2.0 * size),
            "spread": each(1.5),
            "median": each(1.0),
        },
        "gradient_size": {
            "batch_sizes": sizes,
            "layers": layers,
            "mean_magnitude": [
                [about(s * math.sqrt(2 / math.pi / n)) for s in sigma] for n in sizes
            ],
            "mean_square": [[about(s * s / n) for s in sigma] for n in sizes],
            "deviation": sigma,
            "repeats": 4,
        },
        "discarded_gradient": {
            "shares": [0, 10, 30, 50, 70, 90],
            "layers": layers,
            "mean_magnitude": [[v * (1 + s / 40) for v in each(1e-3)] for s in range(0, 60, 10)],
        },
        "update_size": {
            "layers": layers,
            "mean_magnitude": each(1e-3 * size * low),
            "lr": 0.4,
            "mean_magnitude_over_lr": each(2.5e-3 * size * math.sqrt(64 / batch)),
            "searched_space": each(1e-3 * epoch),
            "momentum_norm": [about(4.0)],
            "momentum_bound": 10.0,
        },
        "noise_scale": {
            "noise_scale": about(20 * size * math.exp(4 * share)),
            "gradient_squared": 1.0,
            "covariance_trace": 20.0,
            "batch_size": batch,
            "sign_noise_scale": about(500),
            "spectral_noise_scale": about(90),
            "layers": layers,
            "layer_signal_to_noise": each(0.02),
            "steps": 4,
        },
        "block_norms": {"ratio": 0.6, "supremum": 0.7, "cosine": about(0.8), "blocks": layers},
        "path_smoothness": {"smoothness": about(12 * size), "gradient_norm": about(0.4)},
        "hessian": {
            "eigenvalues": [about(40 * size / (k + 1)) for k in range(5)],
            "residuals": [0.01] * 5,
            "trace": about(300.0),
            "trace_error": 20.0,
            "diagonal_mean_magnitude": each(0.05),
            "layers": layers,
        },
        "alignment": {
            "eigenvalues": [40.0 / (k + 1) for k in range(8)],
            "noise_share": [about(0.05 / (k + 1)) for k in range(8)],
            "isotropic_share": 0.001,
            "isotropic_low": 0.0001,
            "isotropic_high": 0.003,
            "ratio": about(20.0),
        },
        "training_score": {
            "loss": loss,
            "score": 100 * (1 - 0.9 * math.exp(-5 * share)),
            "metric": "accuracy_percent",
            "examples": 1437,
        },
        "distance_to_minimum": {"layers": layers, "mean_distance": each(0.1)},
        "loss_line": {"positions": span, "losses": [loss * (1 + 9 * p * p) for p in span]},
        "loss_plane": {
            "positions_a": span[::2],
            "positions_b": span[::2],
            "losses": [[loss * (1 + 9 * a * a + 4 * b * b) for b in span[::2]] for a in span[::2]],
        },
        "fluctuation": {"fluctuation": about(0.02), "window": 5},
    }
