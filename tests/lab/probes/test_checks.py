"""What cannot be looked at is refused before a run begins, and before its checkpoints are."""

import json
from dataclasses import replace

import pytest

from largebatch.lab.config import RunConfig
from largebatch.lab.errors import InputError
from largebatch.lab.probes import PROBES, asked, check_looks, probe_run
from largebatch.lab.setup import plan_run
from largebatch.lab.train import train

LOOK_WHERE_WORKERS_WILL = [name for name, kind in PROBES.items() if kind.one_pass]
OWN_LOSS = """
from tiny_task import *

def mean(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)

task = Task(name="own-loss", model=network, **(parts | {"loss": mean}))
"""


@pytest.fixture
def config(tiny):
    return RunConfig(
        task=tiny, method="sam", batch_size=32, worker_size=8, lr=0.3, alpha=0.1, epochs=2,
        keep="2", threads=1,
    )  # fmt: skip


def test_there_are_such_probes():
    offsets = {"perturbed_loss", "offset_covariance", "offset_alignment", "noise_alignment"}
    assert set(LOOK_WHERE_WORKERS_WILL) == offsets


@pytest.mark.parametrize("name", LOOK_WHERE_WORKERS_WILL)
def test_a_method_that_finds_out_within_the_step_where_workers_look(name, config, tmp_path):
    # Red: the run goes on, and leaves rows that hold an error each.
    with pytest.raises(InputError, match=f"probe {name} stands where .* 'sam' .* step 0 only"):
        train(replace(config, probes=(f"{name}@5", f"{name}@2")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_same_at_checkpoints(config, tmp_path):
    train(config, tmp_path / "run")
    with pytest.raises(InputError, match="probe perturbed_loss stands where workers will look"):
        probe_run(tmp_path / "run", [asked("perturbed_loss@1")], tmp_path / "out" / "rows.jsonl")
    train(replace(config, method="msgd", alpha=None, worker_size=32), tmp_path / "one")
    with pytest.raises(InputError, match="probe noise_scale needs at least 2 workers in a step"):
        probe_run(tmp_path / "one", [asked("noise_scale@1")], tmp_path / "out" / "rows.jsonl")
    assert not (tmp_path / "out").exists()


def test_steps_that_are_not_looked_at_do_not_count(config):
    plan, chosen = plan_run(config, None), [asked("perturbed_loss@5")]
    check_looks(chosen, config, plan, steps=[2, 4])
    with pytest.raises(InputError, match="within step 5 only"):
        check_looks(chosen, config, plan, steps=[4, 5])


def test_a_task_that_does_not_say_the_loss_of_each_example(config, tmp_path):
    (tmp_path / "own_loss.py").write_text(OWN_LOSS)
    own = replace(config, task="own_loss:task", probes=("discarded_gradient@1",))
    with pytest.raises(InputError, match="probe discarded_gradient: task 'own-loss' has no loss"):
        train(own, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_checkpoints_of_several_processes_are_refused_and_what_to_do_is_said(config, tmp_path):
    train(replace(config, method="msgd", alpha=None), tmp_path / "run")
    path = tmp_path / "run" / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processes": 2}))
    rows = tmp_path / "out" / "rows.jsonl"
    with pytest.raises(InputError, match=r"made by 2 processes, .* measure while it runs"):
        probe_run(tmp_path / "run", [asked("gradient_cosine@1")], rows)
    assert not rows.parent.exists()
    assert probe_run(tmp_path / "run", [asked("gradient_cosine@start")], rows) == 1
