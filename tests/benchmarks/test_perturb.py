"""The benchmark of perturbations, gradient noise and batch tricks: what it times and writes."""

import inspect
import json
import math
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.contracts import GradientNoise, Placement
from largebatch.perturb.extrapolation import Kind as Extrapolated
from largebatch.perturb.filters import Scaling
from largebatch.perturb.matched import Kind as Matched

ROOT = Path(__file__).parents[2]
SCRIPTS = ("apart", "noises", "table", "timing")


@pytest.fixture
def script(benchmarks):
    yield benchmarks("perturb")
    for name in SCRIPTS:
        sys.modules.pop(name, None)


@pytest.fixture
def ways(script):
    return script["WAYS"]


def exported(base):
    names = [getattr(lb, name) for name in lb.__all__]
    return {
        e
        for e in names
        if isinstance(e, type) and issubclass(e, base) and not inspect.isabstract(e)
    }


def test_quick_run_writes_every_method(script, ways, tmp_path, capsys):
    out = tmp_path / "perturb.json"
    assert script["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    methods, copy = found["methods"], found["parameter_bytes"]
    assert list(methods) == [way.name for way in ways]
    timed = {each["class"] for each in methods.values()}
    assert {e.__name__ for e in exported(lb.Perturbation) | exported(GradientNoise)} <= timed
    for each in methods.values():
        over = each["over_workers"]
        assert 0 < over["low"] <= over["median"] <= over["high"] < math.inf
        assert math.isfinite(each["us_per_worker"])
    # 2 workers' slots and the copy of clean weights; the noise itself lives no longer than a move.
    held = {name: each["bytes_held"] / copy for name, each in methods.items()}
    assert held["GNC(alpha)"] == pytest.approx(3, abs=0.01)
    assert held["RNC(alpha)"] == pytest.approx(1, abs=0.01)
    assert held["MatchedNoise(alpha)"] == pytest.approx(3 + 12 / 4, abs=0.03)
    assert held["EigenNoise(rho, k)"] == pytest.approx(5 + 1, abs=0.01)
    assert held["hard_examples(losses)"] == 0
    eigen = methods["EigenNoise(rho, k)"]
    share = eigen["over_workers"]["median"] - eigen["without_refresh"]["median"]
    assert share == pytest.approx(eigen["refresh_over_gradient"]["median"] / 10)
    assert eigen["refresh_over_gradient"]["median"] > 1  # 20 Hessian products
    assert "floor" in capsys.readouterr().out
    assert script["main"](["--table", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(f"| `{way.name}` | " in printed for way in ways)


@pytest.mark.parametrize("base", [lb.Perturbation, GradientNoise])
def test_every_exported_method_is_timed(ways, base):
    given = {type(way.perturb or way.noise) for way in ways}
    assert exported(base) <= given


def test_both_kinds_are_timed_where_there_are_two(ways):
    def values(kind, option):
        return {getattr(w.perturb, option) for w in ways if type(w.perturb) is kind}

    assert values(lb.GNC, "scaling") == values(lb.RNC, "scaling") == set(get_args(Scaling))
    assert values(lb.MatchedNoise, "kind") == set(get_args(Matched))
    assert values(lb.Extrapolation, "kind") == set(get_args(Extrapolated))
    assert values(lb.SAM, "per_worker") == {False, True}
    assert {w.noise.placement for w in ways if w.noise} == set(get_args(Placement))


@pytest.fixture
def tiny(script):
    """Makes a trial of any way on few images."""
    batch = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    return lambda way: script["Trial"](way, 2, batch, 8)


def test_each_way_does_what_its_name_says(ways, tiny):
    # Red: a way that is timed without its method: a loss or a trick that nobody calls.
    by_name = {way.name: way for way in ways}
    small = tiny(by_name["discard_small_gradients(parameters)"])
    small.workers.backward(small.loss, *small.batch)
    small.finish()
    weight = small.model.linear.weight
    assert (weight.grad == 0).sum() == math.floor(0.3 * weight.numel())
    scores, y = torch.randn(10, 4), torch.randint(4, (10,))
    plain = nn.functional.cross_entropy(scores, y)
    assert by_name["hard_examples(losses)"].loss(scores, y) > plain
    sharp = nn.functional.cross_entropy(scores * 2, y)
    assert by_name["sharp_cross_entropy(logits, targets)"].loss(scores, y) == sharp
    eigen = tiny(by_name["EigenNoise(rho, k)"])
    eigen.step()
    assert eigen.workers.offset_to_weight_norm > 0


def test_floor_is_bytes_and_numbers_by_their_rates(script, ways, tiny):
    rates = {
        "bytes_per_second": 1e6,
        "ns_per_normal_number": 3000.0,
        "ns_per_uniform_number": 2000.0,
    }
    by_name = {way.name: way for way in ways}

    def floor(name):
        trial = tiny(by_name[name])
        return script["floor"](by_name[name], trial, rates)

    model = tiny(by_name["GNC(alpha)"]).model
    everything = sum(p.numel() for p in model.parameters())
    filters = sum(p.numel() for p in model.parameters() if p.ndim >= 2)
    # A byte takes a microsecond here, a number two.
    assert floor("GNC(alpha)") == pytest.approx(4 * (6 * filters + 4 * everything))
    assert floor("RNC(alpha)") == pytest.approx(4 * 5 * filters + 2 * filters)
    shared = (4 * 2 + 2) * everything / 2  # once a step, by two workers
    assert floor("AnnealedNoise(eta)") == pytest.approx(shared)
    assert floor("hard_examples(losses)") == 0


def test_overhead_is_a_workers_beyond_what_is_handed_over(script, monkeypatch):
    # Red: not divided by the workers, or one hand-over subtracted where there were two passes.
    names = script["overheads"].__globals__
    monkeypatch.setitem(
        names, "in_turns", lambda steps, rounds, device: {name: [8.0] for name in steps}
    )
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = {
        name: script["Given"](lb.Workers(model, optimizer, perturb, count=4))
        for name, perturb in (("one", None), ("two", lb.SAM(0.1)))
    }
    assert script["overheads"](given, 1) == {"one": 0.0, "two": -2e6}


def test_a_step_that_is_timed_apart_runs_every_pass_loss_and_finish(script):
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, lb.SAM(0.1), count=3)
    calls = []
    way = script["Given"](workers, lambda: calls.append("loss"), lambda: calls.append("finish"))
    script["overheads"]({"sam": way}, 1)
    steps = workers.step
    assert steps > 1
    assert calls == [*["loss"] * 6, "finish"] * steps


def test_what_is_held_counts_storages_once_and_no_parameter(script):
    names = script["Trial"].__dict__["memory"].__globals__
    model = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, lb.GNC(0.1, "plain"), count=3)
    x, y = torch.randn(6, 10), torch.randn(6, 10)
    for _ in range(2):
        workers.backward(lambda x, y: (model(x) - y).square().mean(), x, y)
    copies = names["held"](workers) / (4 * 110)
    assert copies == pytest.approx(4, abs=0.01)  # three slots, of which there are views, one copy


@pytest.mark.parametrize("page", ["perturbations", "noise-and-loss"])
def test_the_costs_on_the_page_are_those_that_were_measured(script, page):
    found = json.loads((ROOT / "benchmarks" / "results" / "perturb.json").read_text("utf-8"))
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    rows = script["costs"](found, page)
    assert rows
    missing = [row for row in rows if row not in text]
    assert not missing, (
        f"python benchmarks/perturb.py --table prints what {page}.md lacks: {missing}"
    )
