import json
import os
import signal
import sys
import time
import traceback
from dataclasses import replace

import pytest
import torch

from largebatch.lab import train as train_module
from largebatch.lab.config import BatchesConfig, RunConfig, ScheduleConfig, to_dict
from largebatch.lab.errors import InputError
from largebatch.lab.methods import PARTS, RULES
from largebatch.lab.train import train

WARM = ScheduleConfig(warmup_epochs=1)


@pytest.fixture
def config(tiny):
    """GNC on SNGM: weights, momentum, noise and schedule all carry over from step to step."""
    return RunConfig(
        task=tiny, method="sngm+gnc", batch_size=32, worker_size=8, lr=0.3, alpha=0.1, epochs=4,
        schedule=WARM, evaluations=4,
    )  # fmt: skip


def measured(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def result(folder):
    found = json.loads((folder / "result.json").read_text())
    return {k: v for k, v in found.items() if k != "seconds"}


@pytest.fixture
def trained(monkeypatch):
    """The parts of every run of this process, as they are at its end."""
    found = []

    def make(*arguments, original=train_module.make_training):
        found.append(original(*arguments))
        return found[-1]

    monkeypatch.setattr(train_module, "make_training", make)
    return found


@pytest.fixture
def weights(trained):
    """The weights of every run of this process, at its end."""
    return lambda i: torch.cat([p.detach().flatten() for p in trained[i].model.parameters()])


def test_equal_configurations_give_equal_bits(config, tmp_path, weights):
    for name in ("a", "b"):
        torch.manual_seed(len(name) + ord(name))  # what was drawn before must not matter
        train(config, tmp_path / name)
    train(replace(config, seed=1), tmp_path / "c")
    assert torch.equal(weights(0), weights(1))
    assert measured(tmp_path / "a") == measured(tmp_path / "b")
    assert not torch.equal(weights(0), weights(2))


def test_another_process_gives_the_same_bits(config, tmp_path, start):
    train(config, tmp_path / "here")
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    other = start("train", "--config", "config.json", "--out", "there", "--json", cwd=tmp_path)
    out, err = other.communicate(timeout=120)
    assert (other.returncode, err) == (0, "")
    assert measured(tmp_path / "here") == measured(tmp_path / "there")
    assert result(tmp_path / "there") == {
        k: v for k, v in json.loads(out).items() if k != "seconds"
    }


class Stop(Exception):
    pass


def cut(config, out, at, length=12):
    """Runs until step ``at`` is done, then again; the steps of the second run."""

    def stop(done, steps):
        assert steps == length
        if done == at:
            raise Stop

    with pytest.raises(Stop):
        train(config, out, progress=stop)
    assert not (out / "result.json").exists()
    seen = []
    train(config, out, progress=lambda done, steps: seen.append(done))
    return seen


@pytest.mark.parametrize("at", [1, 4, 7, 11])
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_resumed_run_equals_the_uninterrupted_one(config, tmp_path, weights, at, seconds):
    config = replace(config, checkpoint_seconds=seconds)
    train(config, tmp_path / "whole")
    assert cut(config, tmp_path / "cut", at)[0] == (at + 1 if seconds == 0.0 else 1)
    assert torch.equal(weights(0), weights(2))
    assert measured(tmp_path / "cut") == measured(tmp_path / "whole")
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


@pytest.mark.parametrize("method", [*RULES, *PARTS])
def test_every_method_resumes_to_the_bit(config, tmp_path, weights, method):
    alpha = PARTS[method].first(0.01) if method in PARTS else None
    config = replace(config, method=method, alpha=alpha, lr=0.01, checkpoint_seconds=0.0)
    config = replace(config, refresh_every=5)  # cut between two refreshes
    train(config, tmp_path / "whole")
    assert cut(config, tmp_path / "cut", 7)[0] == 8
    assert torch.equal(weights(0), weights(2))
    assert measured(tmp_path / "cut") == measured(tmp_path / "whole")


@pytest.mark.parametrize("at", [3, 12, 17, 21])  # within a stage, at its end, within an epoch
@pytest.mark.parametrize("method", ["sngm+gnc", "adamw+gnc", "muon+gnc"])
def test_a_batch_that_grows_resumes_to_the_bit(config, tmp_path, weights, method, at):
    grown = BatchesConfig(sizes=(8, 16), until=(1.0, 2.0))
    config = replace(config, method=method, batches=grown, worker_size=4, checkpoint_seconds=0.0)
    train(config, tmp_path / "whole")
    assert cut(config, tmp_path / "cut", at, length=12 + 6 + 3 + 3)[0] == at + 1
    assert torch.equal(weights(0), weights(2))
    assert measured(tmp_path / "cut") == measured(tmp_path / "whole")
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


LOOKS_AGAIN = """
from torch.optim import SGD
calls = []
class LooksAgain(SGD):
    refreshes = True
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
    def refresh(self, fn, *batch):
        at = self.param_groups[0]["params"][0].detach().clone()
        calls.append((at, fn(*batch).item(), [len(part) for part in batch]))
"""


def test_what_wants_the_loss_again_gets_it_every_so_many_steps(config, tmp_path):
    (tmp_path / "looks_again.py").write_text(LOOKS_AGAIN)
    config = replace(config, method="looks_again:LooksAgain", alpha=None, refresh_every=5)
    config = replace(config, checkpoint_seconds=0.0, refresh_examples=24)
    train(config, tmp_path / "whole")
    calls = sys.modules.pop("looks_again").calls
    assert len(calls) == 3  # at steps 0, 5 and 10 of 12
    assert all(sizes == [24, 24] for *_, sizes in calls)  # of the step's 32
    assert all(0.2 < loss < 2 for _, loss, _ in calls)
    first, *later = (at for at, *_ in calls)
    assert not any(torch.equal(first, at) for at in later)
    cut(config, tmp_path / "cut", 7)
    again = sys.modules.pop("looks_again").calls
    assert [loss for _, loss, _ in again] == [loss for _, loss, _ in calls]


def test_several_optimizers_learn_together(config, tmp_path, trained, weights):
    muon = replace(config, method="muon+gnc", lr=0.01, alpha=1.0, epochs=30)
    assert train(muon, tmp_path / "a")["value"] > 75
    train(replace(muon, lr=0.0), tmp_path / "b")
    assert (weights(0) != weights(1)).all()  # a step of either moves every element it holds
    assert [scheduler.last_epoch for scheduler in trained[0].schedulers] == [90, 90]


def test_stopped_between_the_last_step_and_the_result(config, tmp_path, monkeypatch):
    config = replace(config, checkpoint_seconds=0.0)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as broken:
        broken.setattr(train_module, "_result", lambda *a: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    train(config, tmp_path / "cut")
    assert result(tmp_path / "cut") == result(tmp_path / "whole")
    assert measured(tmp_path / "cut") == measured(tmp_path / "whole")


def test_killed_and_started_again(config, tmp_path, start):
    config = replace(config, checkpoint_seconds=0.0, epochs=150, evaluations=30)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    process = start("train", "--config", "config.json", "--out", "cut", cwd=tmp_path)
    checkpoint, until = tmp_path / "cut" / "checkpoint" / "state.pt", time.monotonic() + 100
    while not checkpoint.exists() and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = []
    train(config, tmp_path / "cut", progress=lambda done, steps: first.append(done))
    assert first[0] > 1
    train(config, tmp_path / "whole")
    assert measured(tmp_path / "cut") == measured(tmp_path / "whole")


def test_a_finished_run_is_not_repeated(config, tmp_path):
    first = train(config, tmp_path / "a")
    before = (tmp_path / "a" / "metrics.jsonl").stat().st_mtime_ns
    assert train(config, tmp_path / "a") == first
    assert (tmp_path / "a" / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_finished_run_does_not_answer_for_another_configuration(config, tmp_path):
    train(config, tmp_path / "a")
    with pytest.raises(InputError, match=r"a holds another run \(differs in lr\): choose another"):
        train(replace(config, lr=0.4), tmp_path / "a")


def test_a_loss_that_is_not_a_number_ends_the_run_as_diverged(config, tmp_path):
    diverging = replace(config, method="msgd", alpha=None, lr=1e30, epochs=50)
    ended = train(diverging, tmp_path / "a")
    assert (ended["status"], ended["value"], ended["loss"]) == ("diverged", None, None)
    assert ended["updates"] < 150
    assert measured(tmp_path / "a")[-1]["loss"] is None
    assert train(diverging, tmp_path / "a") == ended


def test_weights_that_break_in_the_last_step_are_diverged_too(config, tmp_path):
    ended = train(replace(config, lr=1e39, method="msgd", alpha=None, updates=1), tmp_path / "a")
    assert (ended["status"], ended["value"], ended["updates"]) == ("diverged", None, 1)


def test_the_result_says_what_was_done(config, tmp_path):
    ended = train(config, tmp_path / "a")
    assert {k: ended[k] for k in ("status", "metric", "updates", "examples")} == {
        "status": "done", "metric": "accuracy_percent", "updates": 12, "examples": 12 * 32,
    }  # fmt: skip
    scores = [row for row in measured(tmp_path / "a") if row["kind"] == "eval"]
    assert ended["value"] == scores[-1]["accuracy_percent"]
    assert ended["offset_to_weight_norm"] > 0
    assert [row["step"] for row in scores] == [3, 6, 9, 12]
    assert {row["split"] for row in scores} == {"test"}


def test_perturbed_runs_alone_have_an_offset(config, tmp_path):
    ended = train(replace(config, method="sngm", alpha=None), tmp_path / "a")
    assert ended["offset_to_weight_norm"] is None
    assert not any("offset_to_weight_norm" in row for row in measured(tmp_path / "a"))


def test_it_learns(config, tmp_path):
    assert train(replace(config, epochs=30), tmp_path / "a")["value"] > 75


def test_no_step_formats_a_stack_trace(config, tmp_path, monkeypatch):
    """Without CUDA, torch.manual_seed does: the weights' seed may, a step's may not."""
    called = []
    monkeypatch.setattr(traceback, "format_stack", lambda *a, **k: called.append(1) or [])
    train(config, tmp_path / "a")
    assert len(called) < 12
