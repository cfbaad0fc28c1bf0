"""The script behind docs/results/curv-first-update: that it runs, and what it holds rows to."""

import json
from math import pi, sqrt

import pytest


def test_a_smoke_run_measures_compares_and_writes(benchmarks, tmp_path, capsys):
    out = tmp_path / "curv.json"
    assert benchmarks("curv_figures")["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    for layer in found["settings"]["layers"]:
        (first,) = found["beside_theory"][layer]
        assert first[0]["batch_size"] == 32
        assert first[-1]["magnitude"] == pytest.approx(first[-1]["magnitude_mean"])
        assert first[-1]["square"] == pytest.approx(first[-1]["square_mean"])
        assert found["discarded"][layer]["0"] == 1.0
    left = found["discarded_by_class"]
    assert 0 < left["variance_between_classes"] < 1
    assert [sum(each) for each in left["examples_by_class"].values()] == [64, 58, 45, 32, 7]
    assert "| 32 |" in capsys.readouterr().out


def row(**fields):
    given = {
        "layers": ["a", "b"], "batch_sizes": [4, 100], "batches": [8, 1], "examples": 100,
        "mean_magnitude": [[9.0, 1.0], [9.0, 0.5]], "mean_square": [[9.0, 2.0], [9.0, 0.25]],
        "expected_magnitude": [[9.0, 1.1], [9.0, 0.5]],
        "deviation": [9.0, 3.0], "full_square": [9.0, 0.25],
    }  # fmt: skip
    return given | fields


def test_theory_is_of_the_layer_asked_for(benchmarks):
    script = benchmarks("curv_figures")
    few, all_ = script["beside_theory"](row(), "b")
    assert few["magnitude_zero"] == pytest.approx(3 * sqrt(2 / (4 * pi)))
    assert few["square_zero"] == pytest.approx(9 / 4)
    assert few["square_mean"] == pytest.approx(0.25 + 9 * (1 / 4 - 1 / 100))
    assert (all_["magnitude_mean"], all_["square_mean"]) == (0.5, 0.25)
    assert few["magnitude_mean"] == 1.1
    assert script["noise_scale"](row(), "b") == pytest.approx(36)


def test_what_is_left_is_over_the_whole_batch(benchmarks):
    seen = {"layers": ["a", "b"], "shares": [0.0, 50.0], "mean_magnitude": [[9.0, 2.0], [9.0, 3.0]]}
    assert benchmarks("curv_figures")["discarded"](seen, "b") == {"0": 1.0, "50": 1.5}


def test_a_first_epoch_is_the_mean_of_its_steps_beside_one_over_the_root(benchmarks):
    script = benchmarks("curv_figures")

    def row(step, value):
        return {"step": step, "layers": ["a", "b"], "mean_magnitude_over_lr": [9.0, value]}

    steps = {"sizes-0": [{}], "epoch-4": [row(0, 1.0), row(16, 3.0)], "epoch-64": [row(0, 1.0)]}
    found = script["first_epoch"](steps, "b")
    assert found == [
        {"batch_size": 4, "measured_steps": 2, "mean": 2.0, "same_update": 3.0},
        {"batch_size": 64, "measured_steps": 1, "mean": 1.0, "same_update": None},
    ]
    lines = script["epoch_table"]({"first_epoch": {"b": found}}, "b")
    assert lines[2:] == ["| 4 | 2.00e+00 | 1.00 | 3.00e+00 |", "| 64 | 1.00e+00 | 2.00 | - |"]
