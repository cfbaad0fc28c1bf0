from dataclasses import replace

import pytest
import torch

from largebatch.lab.checkpoint import load_checkpoint, save_checkpoint
from largebatch.lab.config import RunConfig
from largebatch.lab.errors import InputError
from largebatch.lab.setup import make_training, plan_run


@pytest.fixture
def run(tiny, tmp_path):
    config = RunConfig(task=tiny, batch_size=32, worker_size=8)
    training = make_training(config, plan_run(config, None))
    path = tmp_path / "run" / "checkpoint" / "state.pt"
    path.parent.parent.mkdir()
    return config, training, path


def test_without_a_checkpoint_it_starts_at_zero(run):
    config, training, path = run
    assert load_checkpoint(path, training, config) == (0, 0.0)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(run, share):
    config, training, path = run
    save_checkpoint(path, training, config, 3, 1.5)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"state\.pt is damaged .*: delete it to start the run"):
        load_checkpoint(path, training, config)


def test_a_checkpoint_of_another_configuration_is_refused(run):
    config, training, path = run
    save_checkpoint(path, training, config, 3, 1.5)
    with pytest.raises(InputError, match=r"another configuration \(differs in lr, seed\)"):
        load_checkpoint(path, training, replace(config, lr=0.2, seed=5))


def test_a_file_of_something_else_is_refused(run):
    config, training, path = run
    path.parent.mkdir()
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"state\.pt"):
        load_checkpoint(path, training, config)


def test_what_could_run_code_is_not_loaded(run):
    config, training, path = run
    path.parent.mkdir()
    torch.save({"config": print}, path)
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path, training, config)


def test_a_failed_write_leaves_the_checkpoint_before(run, monkeypatch):
    config, training, path = run
    save_checkpoint(path, training, config, 3, 1.5)

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, training, config, 6, 3.0)
    assert load_checkpoint(path, training, config) == (3, 1.5)
