"""The benchmark of noise in bfloat16: runs that differ in the dtype alone, paired by seed."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(benchmarks):
    pytest.importorskip("scipy")
    yield benchmarks("noise_dtype")
    sys.modules.pop("timing", None)


def test_differences_are_those_of_one_seed(script, tmp_path, capsys, monkeypatch):
    # Red: seeds paired with others, or the subtraction the other way round.
    seen = []

    def train(config, folder):
        seen.append(config)
        value = {None: 80.0, "float32": 90.0, "bfloat16": 89.0}[config.noise_dtype]
        return {"value": value + config.seed, "offset_to_weight_norm": 0.01}

    monkeypatch.setitem(script["accuracy"].__globals__, "train", train)
    out = tmp_path / "noise_dtype.json"
    assert script["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))["methods"]
    assert set(found) == {"gnc", "sngm+gnc"}
    for each in found.values():
        assert each["bfloat16_minus_float32"] == {"mean": -1.0, "low": -1.0, "high": -1.0}
        assert each["float32_minus_without"]["mean"] == 10.0
        assert each["accuracy_percent"]["float32"] == [90.0, 91.0]
    assert {c.method for c in seen} == {"gnc", "sngm+gnc", "msgd", "sngm"}
    assert {(c.batch_size, c.count, c.epochs, c.split) for c in seen} == {(1024, 16, 40, "test")}
    assert "bfloat16_minus_float32" in capsys.readouterr().out


def test_a_run_that_diverged_is_an_error(script, monkeypatch):
    monkeypatch.setitem(
        script["accuracy"].__globals__,
        "train",
        lambda config, folder: {"value": None, "offset_to_weight_norm": None},
    )
    with pytest.raises(RuntimeError, match="gnc with seed 3 diverged"):
        script["accuracy"](script["config"]("gnc", 0.1, 0.1, "float32", 3))


def test_the_effect_on_the_page_is_the_one_that_was_measured():
    found = json.loads((ROOT / "benchmarks" / "results" / "noise_dtype.json").read_text("utf-8"))
    text = " ".join((ROOT / "docs" / "step.md").read_text(encoding="utf-8").split())
    for each in found["methods"].values():
        one = each["bfloat16_minus_float32"]
        low, high = (f"{one[end]:+.2f}".replace("-", "−") for end in ("low", "high"))
        assert f"{low} to {high})" in text
        assert f"by {one['mean']:+.2f} " in text
    worth = found["methods"]["gnc"]["float32_minus_without"]["mean"]
    assert f"GNC itself is worth {worth:.2f}," in text
