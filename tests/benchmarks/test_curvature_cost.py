"""The benchmark of curvature runs, and writes costs and ages."""

import json

import pytest
import torch


@pytest.fixture
def script(benchmarks):
    return benchmarks("curvature_cost")


def test_quick_run_writes_costs_and_ages(script, tmp_path):
    pytest.importorskip("sklearn")
    out = tmp_path / "curvature_cost.json"
    assert script["main"](["--quick", "--threads", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    costs = found["cost"]["over_a_gradient"]
    assert {"refresh, exact", "refresh, differences", "MCLR step", "SGD step"} <= set(costs)
    for name in ("refresh, exact", "refresh, differences"):
        assert costs[name]["median"] > 1  # no Hessian product is cheaper than a gradient
        every = found["cost"]["steps_between_refreshes_that_add_a_tenth"][name]
        assert every - 1 < costs[name]["median"] / 0.1 <= every
    ages = found["age"]["cosine_by_age_in_steps"]
    assert set(ages) == {"0", "1"}
    assert all(len(each) == 2 for each in ages.values())


def test_ages_meet_the_diagonals_of_so_many_steps_ago(script, monkeypatch):
    # One number a parameter, the step of training: the cosine of (1, t) with (1, t + age). Red: an
    # age counted from the wrong start, or old and new exchanged with others.
    pytest.importorskip("sklearn")
    names = script["age"].__globals__
    monkeypatch.setitem(names, "hutchinson_diagonal", lambda f, p, samples, step: [step])
    monkeypatch.setitem(names, "cosine", lambda a, b: (a[0], b[0]))
    found = script["age"]((0, 2), (0, 1, 3), samples=1, size=4)["cosine_by_age_in_steps"]
    # Even numbers name the diagonal taken at step t, odd ones the one it is held against.
    assert found == {"0": [(0, 1), (4, 5)], "1": [(0, 3), (4, 7)], "3": [(0, 7), (4, 11)]}


def test_cosine_is_over_all_parameters_at_once(script):
    a = [torch.tensor([1.0, 0.0]), torch.tensor([[1.0]])]
    b = [torch.tensor([1.0, 5.0]), torch.tensor([[-1.0]])]
    assert script["cosine"](a, b) == 0
    assert script["cosine"](a, a) == pytest.approx(1)
