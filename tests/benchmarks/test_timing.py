"""Timing in turns, and the ratio of neighbours in time."""

import json

import pytest
import torch


@pytest.fixture
def timing(benchmarks):
    return benchmarks("timing")


def test_ratio_is_that_of_neighbours_in_time(timing):
    found = timing["ratio"]([2.0, 4.0, 30.0], [1.0, 4.0, 10.0])
    assert found == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_ways_take_turns_and_the_first_rounds_do_not_count(timing, monkeypatch):
    # Red: one way's rounds in a row; warm-up that counts; `before` within the time, or left out.
    clock, order = [0.0], []

    def way(name, seconds):
        order.append(name)
        clock[0] += seconds if len(order) > 2 * 2 * timing["WARM_UP"] else 1000.0

    def before(name):
        order.append(f"before {name}")
        clock[0] += 500.0

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    ways = {"a": lambda: way("a", 1.0), "b": lambda: way("b", 2.0)}
    found = timing["in_turns"](ways, 2, before)
    assert found == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    assert order == ["before a", "a", "before b", "b"] * (2 + timing["WARM_UP"])


def test_copies_move_twice_what_sums_read(timing, monkeypatch):
    monkeypatch.setitem(timing["memory_rates"].__globals__, "in_turns", lambda w, r, device: ticks)
    ticks = {"copy": [2.0], "read": [1.0]}
    assert timing["memory_rates"](256) == {"copy": 1024.0, "read": 1024.0}


def test_header_says_what_ran_on_what_and_is_written(timing, tmp_path):
    torch.set_num_threads(1)
    found = timing["header"]("some", {"rounds": 3})
    timing["write"](found, tmp_path / "new" / "some.json")
    read = json.loads((tmp_path / "new" / "some.json").read_text(encoding="utf-8"))
    assert (read["format"], read["benchmark"], read["settings"]) == (1, "some", {"rounds": 3})
    assert read["environment"]["torch"] == torch.__version__
    assert read["environment"]["threads"] == 1
