"""The benchmark of the update rules: what it times, what it promises, and what it writes."""

import inspect
import json
import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import largebatch as lb


@pytest.fixture
def rules(benchmarks):
    # By its import, so that the script below sees the same classes.
    benchmarks("rules")
    import rules

    yield rules
    del sys.modules["rules"]


@pytest.fixture
def script(benchmarks, rules):
    return benchmarks("optim")


@pytest.fixture
def alone(rules, monkeypatch):
    """As on a machine without the rivals, whose imports take seconds."""
    monkeypatch.setattr(rules, "find_spec", lambda name: None)


@pytest.mark.usefixtures("alone")
def test_quick_run_writes_every_rule_of_ours(script, tmp_path, capsys):
    out = tmp_path / "optim.json"
    assert script["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    groups = found["models"]["tiny"]
    assert set(groups) == {group.name for group in script["GROUPS"]}
    for group in groups.values():
        for each in group["ratios"].values():
            assert 0 < each["low"] <= each["median"] <= each["high"] < math.inf
    assert found["rivals"] == {"timm": None, "pytorch_optimizer": None}
    assert "timm is not installed" in capsys.readouterr().out
    assert found["environment"]["largebatch"] == lb.__version__


@pytest.mark.usefixtures("alone")
def test_state_is_counted_in_bytes_of_parameters(script):
    # SGD keeps one copy, Adam two and its step counts; a scale that all share counts once.
    def share(make):
        weight = nn.Parameter(torch.ones(100, 10))
        optimizer = make([weight])
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        return script["state_share"](optimizer)

    assert share(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)) == 1
    assert share(lambda p: torch.optim.SGD(p, lr=0.1)) == 0
    assert share(lambda p: torch.optim.AdamW(p)) == pytest.approx(2, abs=0.01)


def test_floors_are_those_of_the_issue(rules):
    # 1.2 and 1.4 over SGD's five streams, 10/7 over AdamW's seven; with reads alone 4/3, 5/3, 7/4.
    found = {
        way.name: rules.floors(way, group.baseline)
        for group in rules.GROUPS
        for way in group.ways
        if way.streams
    }
    assert found["SNGM"] == pytest.approx({"bytes": 1.2, "reads_only": 4 / 3})
    assert found["SNGM, decay"] == pytest.approx({"bytes": 1.4, "reads_only": 5 / 3})
    assert found["LARS"] == pytest.approx({"bytes": 1.4, "reads_only": 5 / 3})
    assert found["LAMB"] == pytest.approx({"bytes": 10 / 7, "reads_only": 7 / 4})
    assert found["CBLR, cheap"] == {"bytes": 1.0, "reads_only": 1.0}


def test_bars_are_those_of_the_issue(rules):
    bars = {way.name: way.bar for group in rules.GROUPS for way in group.ways}
    asked = {"SNGM": 1.3, "SNGM, decay": 2.0, "LARS": 2.0, "LAMB": 2.0}
    assert asked.items() <= bars.items()


def test_every_exported_update_rule_is_timed(rules):
    timed = set()
    for way in (way for group in rules.GROUPS for way in group.ways if not way.package):
        weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
        timed.add(type(way.make([weight])))
    exported = [getattr(lb, name) for name in lb.__all__]
    rules_ = {e for e in exported if isinstance(e, type) and issubclass(e, torch.optim.Optimizer)}
    assert timed == {rule for rule in rules_ if not inspect.isabstract(rule)}


def test_a_missed_bar_and_a_faster_rival_are_named(script):
    def at(median):
        return {"median": median, "low": median, "high": median}

    groups = {
        "norm": {"ratios": {"SNGM": at(1.31), "SNGM, block-wise": at(1.3)}},
        "lars, rivals": {
            "ratios": {"LARS": at(math.nan), "timm": at(9.0)},
            "ours_over_rival": {"timm": at(0.9), "other": at(1.1)},
        },
    }
    missed = script["misses"]({"models": {"resnet50": groups}})
    assert missed == [
        "resnet50: SNGM at 1.310, bar 1.3",
        "resnet50: LARS at nan, bar 2.0",
        "resnet50: ours / other at 1.100, bar 1.0",
    ]


@pytest.mark.parametrize(
    ("model", "numbers", "tensors"), [("resnet50", 25_557_032, 161), ("vit_b_16", 86_567_656, 152)]
)
def test_shapes_are_those_of_the_published_networks(script, model, numbers, tensors):
    # 25.6 and 86.6 million are the parameter counts that torchvision's tables publish.
    shapes = script["shapes"](model)
    assert sum(math.prod(shape) for shape in shapes.values()) == numbers
    assert len(shapes) == tensors


def test_each_rule_steps_on_weights_of_its_own(script, rules):
    group = rules.PLAIN
    weights, gradients = script["drawn"]("tiny", 1.0, "cpu"), script["drawn"]("tiny", 1.0, "cpu")
    before = [weight.clone() for weight in weights]
    fast = replace(group.baseline, make=lambda p: torch.optim.SGD(p, lr=1.0))
    optimizer = script["made"](fast, weights, gradients)
    optimizer.step()
    [moved, *_] = optimizer.param_groups[0]["params"]
    assert not torch.equal(moved, before[0])
    for weight, kept in zip(weights, before, strict=True):
        assert torch.equal(weight, kept)


def test_clars_has_heard_a_worker_before_it_steps(rules):
    [way] = [way for group in rules.GROUPS for way in group.ways if way.name == "CLARS"]
    weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    weight.grad = torch.ones_like(weight)
    optimizer = way.make([weight])
    way.before(optimizer)
    optimizer.step()
    assert (weight < 1).all()


@pytest.mark.parametrize("package", ["timm", "pytorch_optimizer"])
def test_rivals_can_be_made(rules, package):
    pytest.importorskip(package)
    ways = [way for group in rules.GROUPS for way in group.ways if way.package == package]
    assert len(ways) == 4  # LARS and LAMB, either way of looping
    for way in ways:
        weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
        weight.grad = torch.ones_like(weight)
        way.make([weight]).step()
        assert (weight < 1).all()
