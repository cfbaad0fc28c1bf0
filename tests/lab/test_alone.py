"""Two commands in one folder: the second is refused, as long as the first lives."""

import errno
import fcntl
import json
import signal

import pytest

from largebatch.lab import alone
from largebatch.lab.alone import alone_in
from largebatch.lab.config import RunConfig
from largebatch.lab.errors import InputError
from largebatch.lab.train import train

HOLDS = """
import sys, time
from pathlib import Path
from largebatch.lab import alone
from largebatch.lab.alone import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def held(start, tmp_path):
    """A folder at which another process is at work, and that process."""
    process = start(tmp_path / "out", code=HOLDS)
    assert process.stdout.readline() == "held\n"
    return tmp_path / "out", process


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--task", "tiny_task:task"],
        ["compare", "--task", "tiny_task:task", "--scale", "smoke", "--methods", "sngm"],
        ["ablate", "gnc", "--task", "tiny_task:task", "--scale", "smoke", "--worker-size", "8"],
    ],
)
def test_a_second_command_is_refused(command, cli, tiny, held):
    out, _ = held
    code, _, err = cli(*command, "--out", str(out))
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"largebatch: another command is at work in {out}: wait for its end")
    assert [path.name for path in out.iterdir()] == ["lock"]


def test_a_process_that_is_killed_holds_nothing(held):
    out, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    with alone_in(out):
        pass
    assert not list(out.iterdir())


def test_a_run_that_ends_early_lets_go(tiny, tmp_path):
    def stop(done, steps):
        raise KeyboardInterrupt

    config = RunConfig(task=tiny, batch_size=32, worker_size=32, epochs=1, threads=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", progress=stop)
    train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "done"


def test_within_one_process_too(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    with alone_in(a), alone_in(b), pytest.raises(InputError, match="at work in"), alone_in(a):
        pass


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch, caplog):
    def refused(handle, how):
        raise OSError(errno.EBADF, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refused)
    alone._unheld.cache_clear()
    with alone_in(tmp_path / "a"), alone_in(tmp_path / "b"):
        pass
    assert caplog.text.count("folders cannot be locked here: start no second command in") == 1
    assert not [*tmp_path.glob("*/*")]


def test_a_lock_that_its_holder_removed_meanwhile_is_none(tmp_path, monkeypatch):
    original, calls = fcntl.flock, []

    def late(handle, how):
        original(handle, how)
        if not calls:
            (tmp_path / "lock").unlink()  # who held it has just ended
        calls.append(handle)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone_in(tmp_path):
        assert (tmp_path / "lock").exists()
        with pytest.raises(InputError, match="at work in"), alone_in(tmp_path):
            pass
    assert len(calls) == 2


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "below"
    with pytest.raises(InputError, match=r"cannot write to .*: Not a directory"), alone_in(below):
        pass
