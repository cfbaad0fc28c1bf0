"""Two commands in one folder: the second is refused, as long as the first lives."""

import errno
import fcntl
import json
import signal

import pytest

from largebatch.lab.alone import alone_in
from largebatch.lab.config import RunConfig
from largebatch.lab.errors import InputError
from largebatch.lab.train import train

HOLDS = """
import sys, time
from pathlib import Path
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
    assert not list(out.glob("**/metrics.jsonl"))


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
    with alone_in(tmp_path):
        pass
    assert "cannot be locked here: start no second command in it" in caplog.text
