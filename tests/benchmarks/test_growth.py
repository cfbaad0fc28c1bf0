"""The script that times a growing batch: that it runs, and that its three runs are what it says."""

import json


def test_a_smoke_run_writes_times_and_updates(benchmarks, tmp_path):
    out = tmp_path / "growth.json"
    assert benchmarks("growth")["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["updates"] == {"small": 40, "growing": 16, "large": 2}
    assert set(found["ratios"]) == {"growing/small", "large/small"}
    assert all(each["median"] > 0 for each in found["ratios"].values())


def test_the_runs_differ_in_their_batch_alone(benchmarks):
    ways = benchmarks("growth")["ways"](40, threads=1)
    small, grown, large = (ways[name] for name in ("small", "growing", "large"))
    assert (small.batch_size, grown.batch_size, large.batch_size) == (64, 1024, 1024)
    assert grown.batches.sizes == (64, 128, 256, 512)
    assert {c.lr for c in ways.values()} == {0.28}
    assert {c.epochs for c in ways.values()} == {40}
