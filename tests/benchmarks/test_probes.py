"""The benchmark of probes: it runs on a small network, and its clock is the step's own."""

import json
import sys

import pytest
from torch import nn


@pytest.fixture
def script(benchmarks):
    yield benchmarks("probes")
    for name in ("switched", "timing"):
        sys.modules.pop(name, None)


def test_quick_run_writes_every_probe(script, tmp_path, capsys, monkeypatch):
    names = script["main"].__globals__
    # Not for the other tests' memory: they have the allocator as it is.
    monkeypatch.setitem(names, "keep_freed_memory", lambda: False)
    monkeypatch.setitem(names, "NETWORKS", {"small": (lambda: nn.Linear(6, 10), (6,))})
    monkeypatch.setitem(names, "memory_rates", lambda count, device: {"read": 1e10})
    out = tmp_path / "probes.json"
    assert script["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    [part] = json.loads(out.read_text(encoding="utf-8"))["parts"].values()
    assert set(part["ratios"]) == set(script["STEPS"])
    assert set(part["points_over_a_gradient"]) == set(script["POINTS"])
    shares = {name: each["share_of_step"] for name, each in part["ratios"].items()}
    assert all(share > 0 for share in shares.values())
    assert shares["NoiseScale, not measured"] < shares["NoiseScale"] < shares["NoiseScale, sign"]
    assert part["floor_of_noise_scale"]["bytes"] == 4 * 70 * 3
    assert "small: NoiseScale" in capsys.readouterr().out
    assert script["main"](["--table", "--out", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(script["STEPS"])


def test_the_least_every_keeps_within_a_hundredth(script):
    def of(measured, idle):
        shares = {"NoiseScale": measured, "NoiseScale, not measured": idle}
        return {name: {"share_of_step": each} for name, each in shares.items()}

    least = script["least_every"]
    assert least(of(0.004, 0.0)) == 1
    assert least(of(0.101, 0.001)) == 12  # 0.001 + 0.1/12 < 0.01 < 0.001 + 0.1/11
    assert least(of(0.2, 0.02)) == -1


def test_the_clock_adds_up_the_calls_of_a_step(script):
    median = script["of_steps"].__globals__["median"]
    assert median([(0, 9.0), (1, 1.0), (1, 2.0), (2, 4.0), (3, 1.0), (3, 4.0)], rounds=3) == 4.0
