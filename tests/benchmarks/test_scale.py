"""The benchmark of what Workers cost at scale: it runs, and its ways take the same step."""

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPTS = ("apart", "launches", "many", "over_ddp", "timing", "workers")


@pytest.fixture
def script(benchmarks):
    yield benchmarks("scale")
    for name in SCRIPTS:
        sys.modules.pop(name, None)


@pytest.fixture
def many(script):
    return script["many"]


def test_quick_run_writes_every_part_with_its_bars(script, tmp_path, capsys, monkeypatch):
    # Not for the other tests' memory: they have the allocator as it is.
    monkeypatch.setitem(script["main"].__globals__, "keep_freed_memory", lambda: False)
    out = tmp_path / "scale.json"
    assert script["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    expected = {name for name in script["BARS"] if not name.startswith("cuda")}
    assert set(found["bars"]) == set(found["within_bars"]) == expected
    for name in expected:
        part, pair = name.split(": ")
        each = found["parts"][part]["ratios"][pair]
        assert 0 < each["low"] <= each["median"] <= each["high"]
        assert name in printed
    for part in ("many, digits_cnn", "many, small_cnn"):
        of = found["parts"][part]
        for name, size in (("float32", 4), ("bfloat16", 2)):
            assert of["bytes_needed"][name] == 4 * of["parameters"] * size
            assert of["floor"]["bytes_per_worker"][name] == 4 * of["parameters"] * size
        assert "at once/plain" in of["ratios"]
    assert script["main"](["--table", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = found["parts"]["ddp"]["ratios"]["gnc/ddp"]["median"]
    assert lines[0].startswith(f"| ddp | gnc/ddp | {first:.3f} | ")
    assert len(lines) == len(expected)


def test_rounds_are_those_of_every_part(script):
    sizes = script["Sizes"]().with_rounds(3)
    assert (sizes.ddp[1], sizes.many[2]) == (3, 3)
    assert {each[2] for each in (*sizes.loops, *sizes.cuda)} == {3}
    assert [each[:2] for each in sizes.loops] == [(1, 128), (16, 32)]


def test_workers_that_are_mapped_over_take_the_same_step(script, many):
    # Red: weights of another worker, noise that is not g_i - g, or no noise: from the second step.
    problem, count = script["PROBLEMS"][0], 6
    step, workers = many.worked(problem, count, None)
    mapped, model = many.vmapped(problem, count, chunk=4)
    plain = problem.parts()[0]
    for _ in range(3):
        step()
        mapped()
    assert workers.offset_to_weight_norm > 1e-6
    for a, b, start in zip(
        workers.model.parameters(), model.parameters(), plain.parameters(), strict=True
    ):
        assert (a - start).abs().max() > 1e-4
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_step_is_repeated_for_as_many_workers(many):
    calls = []
    many.repeated(lambda: calls.append(1), 3)()
    assert calls == [1, 1, 1]


def test_without_a_gpu_the_loops_run_and_start_alike(script):
    launches = script["launches"]
    found = launches.run(8, 2, 2, 2, "cpu")
    assert set(found["ratios"]) == {f"{n}/plain" for n in ("plain", "loop", "workers", "gnc")}
    batch = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    made, names = [], launches.parts.__globals__
    parts = launches.parts

    def kept(*arguments):
        made.append(parts(*arguments))
        return made[-1]

    names["parts"] = kept
    ways = launches.ways(8, batch, 2)
    names["parts"] = parts
    for name in ("loop", "workers"):
        ways[name](*batch)
    (loop, _), (workers, _) = made[1], made[2]
    for a, b in zip(loop.parameters(), workers.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_process_that_fails_is_told(script):
    with pytest.raises(RuntimeError, match="a process of the DDP benchmark failed"):
        script["ddp_in_turns"](1, {"depth": 8, "images": 0, "rounds": 1})


def test_the_costs_on_the_page_are_those_that_were_measured(script):
    path = ROOT / "benchmarks" / "results" / "scale.json"
    if not path.exists():
        pytest.skip("benchmarks/results/scale.json has not been measured yet")
    rows = script["rows"](json.loads(path.read_text("utf-8")))
    text = (ROOT / "docs" / "step.md").read_text(encoding="utf-8")
    missing = [row for row in rows if row not in text]
    assert rows
    assert not missing, f"python benchmarks/scale.py --table prints what step.md lacks: {missing}"
