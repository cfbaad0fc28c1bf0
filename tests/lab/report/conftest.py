"""Synthetic compare folders in the real format, for every case a report must be honest about."""

import json
import math
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from in_browser import FLAGS

Make = Callable[..., Path]
FINAL = {  # what a method reaches at (small batch, 1024), before the seed's own luck
    "msgd": 80.0,
    "lars": 88.0,
    "sngm": 94.2,
    "gnc": 81.0,
    "rnc": 79.6,
    "sngm+gnc": 93.8,
    "msgd+longer": 95.6,
    "torch.optim:NAdam": 91.5,
}
REFERENCE = 96.1


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not both on PATH")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """The writer itself, for folders that several tests share."""
    return write_comparison


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a compare folder below tmp_path."""
    return lambda name="compare", **options: write_comparison(tmp_path / name, **options)


def write_comparison(
    folder: Path,
    methods: Mapping[str, float] = FINAL,
    reference: float = REFERENCE,
    seeds: int = 5,
    batches: tuple[int, ...] = (1024,),
    diverged: tuple[tuple[str, int, int], ...] = (),
    unfinished: tuple[tuple[str, int, int], ...] = (),
    epochs: int = 40,
    spread: float = 0.5,
    metrics: bool = True,
    tuning: bool = True,
    values: Mapping[tuple[str, int, int], float] | None = None,
    **question: Any,
) -> Path:
    """`diverged`, `unfinished`: (method, batch size, seed); `values` sets final values exactly."""
    asked = {
        "format": 1,
        "task": "digits",
        "task_title": "Digits",
        "methods": list(methods),
        "small_batch": 64,
        "batch_sizes": list(batches),
        "worker_size": 32,
        "epochs": epochs,
        "seeds": list(range(seeds)),
        "tuning_seeds": [100],
        "trials": 9,
        "scale": "short",
        "command": "largebatch compare --task digits --out results",
        "metric": "accuracy_percent",
        "higher_is_better": True,
        "train_examples": 1038,
        "validation_examples": 259,
        "test_examples": 500,
        "published": [],
    } | question
    folder.mkdir(parents=True)
    dump(folder / "compare.json", asked)
    keys = list(dict.fromkeys([("msgd", 64), *((m, b) for b in batches for m in methods)]))
    choices = []
    for method, batch in keys:
        base = reference if batch == 64 else methods[method] - 3 * math.log(batch / 1024, 4)
        alpha = 0.1 if "nc" in method else None
        lr = 0.1 * (1 + list(methods).index(method))
        plan = {"method": method, "batch_size": batch, "lr": lr, "alpha": alpha}
        choices.append(plan | {"validation": base + 1, "trials": 9, "at_edge": method == "lars"})
        for seed in range(seeds):
            key = (method, batch, seed)
            luck = random.Random(seed).gauss(0, 3 * spread)  # the pair's: a bad start hurts all
            value = base + luck + random.Random(f"{method}{batch}{seed}").gauss(0, spread)
            value = min(value, 99.0) if asked["metric"] == "accuracy_percent" else value
            value = (values or {}).get(key, value)
            name = f"{len(list((folder / 'final').glob('*'))):04d}"
            run = folder / "final" / name
            state = "diverged" if key in diverged else "unfinished" if key in unfinished else "done"
            write_run(run, asked, plan | {"seed": seed, "split": "test"}, value, state, metrics)
        if tuning:
            _write_trials(folder / "tuning", asked, plan, base, metrics)
    dump(folder / "choices.json", choices)
    return folder


def _write_trials(
    folder: Path, asked: dict[str, Any], plan: dict[str, Any], base: float, metrics: bool
) -> None:
    alphas = [0.01, 0.1, 1.0] if plan["alpha"] is not None else [None]
    for alpha in alphas:
        for power in (-2, -1, 0, 1, 2):
            lr = plan["lr"] * 2.0**power
            value = base - 2.5 * power**2 - (0 if alpha in (None, 0.1) else 1.5)
            trial = plan | {"lr": lr, "alpha": alpha, "seed": 100, "split": "validation"}
            name = f"{len(list(folder.glob('*'))):04d}" if folder.is_dir() else "0000"
            state = "diverged" if power == 2 and plan["method"] == "msgd" else "done"
            write_run(folder / name, asked, trial, value, state, metrics=False)


def write_run(
    folder: Path,
    asked: dict[str, Any],
    plan: dict[str, Any],
    value: float,
    state: str,
    metrics: bool,
) -> None:
    """One run folder; its curves end at `value`, or half way where it diverged."""
    folder.mkdir(parents=True)
    longer = 16 if plan["method"].endswith("longer") else 1
    epochs = asked["epochs"] * longer
    updates_an_epoch = max(1038 // plan["batch_size"], 1)
    config = {"format": 1, "task": asked["task"], "worker_size": 32, "momentum": 0.9} | plan
    dump(folder / "config.json", config | {"epochs": epochs, "device": "cpu", "threads": 1})
    packages = {"numpy": "2.4.6", "scikit-learn": "1.8.0"}
    system = {"largebatch": "0.3.0", "python": "3.11.7", "torch": "2.13.0", "platform": "Linux"}
    dump(folder / "environment.json", system | {"cores": 2, "commit": None, "packages": packages})
    last = epochs if state == "done" else epochs // 2
    if metrics:
        lines = _metrics(asked, plan, value, epochs, last, updates_an_epoch)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if state == "unfinished":
            text += '{"kind": "train", "step": 9'  # torn by a crash
        (folder / "metrics.jsonl").write_text(text)
    if state == "unfinished":
        return
    done = state == "done"
    result = {
        "status": state,
        "metric": asked["metric"],
        "value": value if done else None,
        "loss": 0.3 if done else None,
        "updates": last * updates_an_epoch,
        "examples": last * 1024,
        "seconds": 3.2 + plan["seed"] / 10,
        "offset_to_weight_norm": 0.0123 if plan["alpha"] is not None else None,
    }
    dump(folder / "result.json", result)


def _metrics(
    asked: dict[str, Any],
    plan: dict[str, Any],
    value: float,
    epochs: int,
    last: int,
    per_epoch: int,
) -> list[dict[str, Any]]:
    noise = random.Random(str(plan))
    lines: list[dict[str, Any]] = []
    every = max(epochs // 40, 1)
    for epoch in range(every, last + 1, every):
        done = 1 - math.exp(-8 * epoch / epochs)
        loss = 2.3 * (1 - done) + 0.004 * (101 - min(value, 100)) + noise.random() * 0.02
        step = epoch * per_epoch
        lines.append(
            {"kind": "train", "step": step, "epoch": epoch, "loss": loss, "lr": plan["lr"]}
        )
        reached = value * (0.1 + 0.9 * done) + noise.gauss(0, 0.4)
        place = {"kind": "eval", "step": step, "epoch": epoch, "split": plan["split"]}
        lines.append(place | {"loss": loss, asked["metric"]: reached, "seconds": 0.1})
    return lines


def dump(path: Path, content: object) -> None:
    """Writes JSON."""
    path.write_text(json.dumps(content))
