"""The benchmark runs, writes what it promises, and names no folder or host."""

import json
import socket
from pathlib import Path

import pytest
import torch

import largebatch


@pytest.fixture
def script(benchmarks):
    return benchmarks("workers")


def test_quick_run_writes_ratios_floor_and_environment(script, tmp_path, capsys):
    out = tmp_path / "new" / "workers.json"
    assert script["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    found = json.loads(text)
    assert found["settings"] == {"workers": 2, "images_per_worker": 2, "rounds": 2}
    printed = capsys.readouterr().out
    for pair in ("workers/loop", "gnc/workers", "gnc/loop"):
        each = found["ratios"][pair]
        assert 0 < each["low"] <= each["median"] <= each["high"]
        assert pair in printed
    assert found["bars"] == {"gnc/workers": 1.05, "gnc/loop": 1.06}
    assert found["floor_of_gnc"]["bytes_per_pass"] > 10 * 4 * 200_000
    assert found["environment"]["largebatch"] == largebatch.__version__
    assert found["environment"]["threads"] == 1
    assert set(found["overhead_us_per_pass"]) == {"resnet20", "small_cnn"}
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[2]) not in text


def test_the_three_ways_take_the_same_step(script):
    x, y = torch.randn(8, 3, 32, 32), torch.randint(10, (8,))
    made, parts, names = [], script["parts"], script["loop"].__globals__

    def kept():
        made.append(parts())
        return made[-1]

    names["parts"] = kept
    for step in (script["loop"](2), script["workers"](2, None)):
        step(x, y)
    (loop, _), (workers, _) = made
    for a, b in zip(loop.parameters(), workers.parameters(), strict=True):
        torch.testing.assert_close(a, b)
