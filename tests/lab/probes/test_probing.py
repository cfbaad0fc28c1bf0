"""Probes in a run: its numbers stay the same, rows are there, a resume gives the same ones."""

import json
import time
from dataclasses import dataclass, replace

import pytest
import torch

from largebatch.lab import train as train_module
from largebatch.lab.checkpoint import load_checkpoint
from largebatch.lab.config import RunConfig, from_dict, to_dict
from largebatch.lab.errors import InputError
from largebatch.lab.probes import PROBES, ProbeKind, kinds, when
from largebatch.lab.setup import make_training, plan_run
from largebatch.lab.train import train


@pytest.fixture
def config(tiny):
    return RunConfig(
        task=tiny, method="gnc", batch_size=32, worker_size=8, lr=0.3, alpha=0.1, epochs=2,
        evaluations=2, threads=1,
    )  # fmt: skip


def rows(folder, kind="probe"):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def ended(folder):
    found = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in found.items() if key != "seconds"}


@pytest.mark.parametrize("name", PROBES)
def test_a_run_with_it_ends_as_one_without(name, config, tmp_path, monkeypatch):
    # Red: a probe that leaves anything changed that the rest of the run depends on.
    found = []
    original = train_module.make_training
    monkeypatch.setattr(
        train_module, "make_training", lambda *a: found.append(original(*a)) or found[-1]
    )
    train(config, tmp_path / "plain")
    train(replace(config, probes=(f"{name}@2",)), tmp_path / "probed")
    plain, probed = (each.model.state_dict() for each in found)
    assert all(torch.equal(plain[key], probed[key]) for key in plain)
    assert ended(tmp_path / "plain") == ended(tmp_path / "probed")
    measured = rows(tmp_path / "probed")
    steps = ended(tmp_path / "probed")["updates"]
    assert [row["step"] for row in measured] == list(range(0, steps, 2))
    assert {row["probe"] for row in measured} == {name}


def test_a_row_says_when_and_what(config, tmp_path):
    train(replace(config, probes=("gradient_cosine@epoch",)), tmp_path)
    first, second = rows(tmp_path)
    assert (first["step"], first["epoch"]) == (0, 0.0)
    assert second["epoch"] == 1.0
    assert -1 <= first["cosine"] <= 1
    assert len(first["layers"]) == len(first["layer_cosines"]) > 1


@dataclass(frozen=True)
class Slept:
    """What a slow look finds."""

    seconds: float


def test_the_clock_stands_still_while_a_probe_looks(config, tmp_path, monkeypatch):
    def look(at):
        time.sleep(1.0)
        yield
        time.sleep(1.0)
        return Slept(2.0)

    monkeypatch.setitem(kinds.PROBES, "slow", ProbeKind("slow", "", "", "", look))
    began = time.monotonic()
    train(replace(config, probes=("slow@start",), epochs=1), tmp_path)
    taken = time.monotonic() - began
    assert rows(tmp_path)[0]["seconds"] == 2.0
    assert json.loads((tmp_path / "result.json").read_text())["seconds"] < taken - 1.9


def test_a_run_that_stops_and_goes_on_has_the_same_rows(config, tmp_path):
    probed = replace(config, probes=("gradient_cosine@1",), checkpoint_seconds=0.0)
    train(probed, tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(done, steps):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(probed, tmp_path / "parts", progress=stop)
    train(probed, tmp_path / "parts")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_what_was_asked_wrongly_is_refused_before_any_work(config, tmp_path):
    for wrong, said in (
        ("gradient_cosin@1", "unknown probe 'gradient_cosin': did you mean 'gradient_cosine'"),
        ("gradient_cosine", "--probe needs gradient_cosine@WHEN"),
        ("gradient_cosine@0", "'0' does not say before which steps"),
        ("gradient_cosine@", "'' does not say before which steps"),
    ):
        with pytest.raises(InputError, match=said):
            train(replace(config, probes=(wrong,)), tmp_path / "run")
    with pytest.raises(InputError, match="'sometimes' does not say"):
        train(replace(config, keep="sometimes"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("after", [False, True])
def test_a_probe_that_cannot_look_says_so_in_its_row(after, config, tmp_path, monkeypatch, caplog):
    def look(at):
        if after:
            yield
        raise ValueError("it was dark")
        yield

    monkeypatch.setitem(kinds.PROBES, "dark", ProbeKind("dark", "", "", "", look))
    asked_for = ("dark@end", "gradient_cosine@end")
    train(replace(config, probes=asked_for, updates=3), tmp_path)
    assert [row.get("error") for row in rows(tmp_path)] == ["it was dark", None]
    assert "probe dark at step 2: it was dark" in caplog.text
    assert ended(tmp_path)["updates"] == 3


def test_a_probe_without_enough_workers_is_refused_before_any_work(config, tmp_path):
    alone = replace(config, method="msgd", alpha=None, worker_size=32, probes=("noise_scale@end",))
    with pytest.raises(InputError, match="probe noise_scale needs at least 2 workers in a step"):
        train(alone, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_kept_checkpoints_hold_the_state_before_their_step(config, tmp_path):
    kept = replace(config, keep="2")
    train(kept, tmp_path)
    names = sorted(p.name for p in (tmp_path / "checkpoint").glob("step-*.pt"))
    steps = ended(tmp_path)["updates"]
    assert names == sorted(f"step-{s}.pt" for s in range(0, steps, 2))
    training = make_training(kept, plan_run(kept, None))
    fresh = [p.detach().clone() for p in training.model.parameters()]
    for step, same in ((0, True), (2, False)):
        path = tmp_path / "checkpoint" / f"step-{step}.pt"
        assert load_checkpoint(path, training, kept)[0] == step
        now = [p.detach() for p in training.model.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(fresh, now, strict=True)) == same
    assert training.workers.step == 2


def test_a_config_without_probes_is_the_one_it_always_was(config):
    assert {"probes", "keep"}.isdisjoint(to_dict(config))
    probed = replace(config, probes=("gradient_cosine@1",), keep="epoch")
    assert from_dict(to_dict(probed)) == probed
    assert probed.name() != config.name()


class Epochs:
    """Ten steps, in epochs of four."""

    steps = 10

    def at(self, step):
        return step // 4, step % 4, 1


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1", list(range(10))),
        ("3", [0, 3, 6, 9]),
        ("epoch", [0, 4, 8]),
        ("2epochs", [0, 8]),
        ("start", [0]),
        ("end", [9]),
    ],
)
def test_when(text, steps):
    assert [s for s in range(10) if when(text).due(s, Epochs())] == steps
