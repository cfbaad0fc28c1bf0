"""Made-up folders of ablations in the real format: values by arm, pairs, what diverged."""

import json
import random

import pytest

from largebatch.lab.ablate import ablation_for

ARMS = {
    "gnc": ("gnc", 0.56, 0.43, 92.0),
    "matched": ("matched", 0.56, 0.43, 87.0),
    "matched-iso": ("matched-iso", 0.56, 0.43, 88.0),
    "same-rate": ("msgd", 0.56, None, 88.0),
    "none": ("msgd", 0.31, None, 92.0),
    "rnc": ("rnc", 0.28, 0.5, 92.2),
    "matched-own": ("matched", 0.28, 0.4, 92.1),
}


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write(folder, means=None, pairs=12, spread=0.5, detect=0.6, diverged=(), looks=True, **asked):
    """`means`: of arms that differ from the usual; `diverged`: (arm, seed)."""
    data = {"task_title": "Digits", "metric": "accuracy_percent", "higher_is_better": True,
            "train_examples": 1297, "tuning_examples": 1024, "validation_examples": 273,
            "test_examples": 500, "command": "largebatch ablate gnc"}  # fmt: skip
    dump(folder / "ablate.json", ablation_for("gnc").to_dict() | data | asked)
    power = {"pairs": pairs, "detect": detect, "detect_source": "given", "power": 0.8,
             "pilot_pairs": 8, "pilot_sd": 0.7, "sd": 0.95, "sd_confidence": 0.8,
             "pilot_gain": -1.2, "pairs_to_see": 22, "pairs_to_rule_out": 28,
             "power_to_see": 0.5, "power_to_rule_out": 0.2, "limit": "given"}  # fmt: skip
    dump(folder / "power.json", power)
    choices = []
    for arm, (method, lr, alpha, usual) in ARMS.items():
        choice = {"arm": arm, "method": method, "lr": lr, "alpha": alpha, "trials": 9}
        choices.append(choice | {"at_edge": arm == "rnc"})
        mean = (means or {}).get(arm, usual)
        for seed in range(pairs):
            luck = random.Random(f"{arm}{seed}").gauss(0, spread)
            value = None if (arm, seed) in diverged else mean + luck
            write_run(folder / "final" / f"{arm}-{seed}", choice, seed, value, looks)
    dump(folder / "choices.json", choices)
    return folder


def write_run(folder, choice, seed, value, looks):
    config = {"method": choice["method"], "lr": choice["lr"], "alpha": choice["alpha"]}
    dump(folder / "config.json", config | {"batch_size": 1024, "seed": seed, "device": "cpu"})
    dump(folder / "environment.json", {"torch": "2.13.0"})
    rows = [{"kind": "train", "step": 40, "epoch": 40.0, "loss": 0.1, "lr": 0.0}]
    if looks and seed < 3:
        of = {"gnc": 0.7, "matched": 0.001, "matched-iso": 0.001, "rnc": 0.0005}
        share = of.get(choice["method"])
        rows += [look(step, share) for step in (0, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status = "diverged" if value is None else "done"
    result = {"status": status, "value": value, "offset_to_weight_norm": 0.01}
    dump(folder / "result.json", result)


def look(step, offsets):
    share = {"top_isotropic_share": 0.0008, "eigenvalues": [5.0, 2.0, 1.0, 1.0, 1.0]}
    seen = None if offsets is None or step == 0 else share | {"top_share": offsets}
    place = {"kind": "probe", "probe": "noise_alignment", "step": step, "epoch": float(step)}
    return place | {"offsets": seen, "gradients": share | {"top_share": 0.4}, "examples": 256}


@pytest.fixture
def make(tmp_path):
    """Writes an ablation's folder below tmp_path."""
    return lambda name="ablation", **options: write(tmp_path / name, **options)


@pytest.fixture(scope="session")
def ablation(tmp_path_factory):
    """One folder for all that only read it."""
    return write(tmp_path_factory.mktemp("ablation") / "usual")
