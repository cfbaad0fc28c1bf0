"""What ends a command on its way: Ctrl-C, a full disk, a process that dies. Finished runs stay."""

import json
import os
import resource
import signal
import time

import pytest

from largebatch.lab.cli import main as _main  # noqa: F401  (imported once, before any clock runs)
from largebatch.lab.compare import pool

DYING = """
import multiprocessing, os, signal
from tiny_task import *

def load(data_dir, original=load):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(data_dir)

task = Task(name="dying", model=network, **(parts | {"load": load}))
"""


def until(true, seconds=120.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def results(folder):
    return list(folder.glob("out/*/*/result.json"))


def group_is_gone(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def long(tiny):
    """A comparison of a few seconds on two processes."""
    sizes = ["--methods", "gnc", "--worker-size", 8, "--epochs", 150, "--seeds", 2]
    return ["compare", "--task", tiny, *sizes, "--widenings", 0, "--jobs", 2, "--out", "out"]


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(start, long, tmp_path):
    process = start(*long, cwd=tmp_path, start_new_session=True)
    until(lambda: len(results(tmp_path)) >= 3)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == (
        "largebatch: interrupted: finished runs are kept in out; the same command goes on from "
        "there\n"
    )
    until(lambda: group_is_gone(process.pid), 20)
    kept = {path: path.stat().st_mtime_ns for path in results(tmp_path)}
    assert 3 <= len(kept) < 33
    process = start(*long, cwd=tmp_path)
    _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")
    assert len(results(tmp_path)) == 33
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
@pytest.mark.parametrize("file", ["compare.json", "tuning/*/metrics.jsonl"])
def test_ctrl_c_ends_processes_that_start_or_are_amid_a_long_run(start, long, tmp_path, file):
    process = start(*long, "--epochs", 100_000, cwd=tmp_path, start_new_session=True)
    until(lambda: list((tmp_path / "out").glob(file)))
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (130, 1)
    until(lambda: group_is_gone(process.pid), 20)


@pytest.mark.slow
def test_processes_do_not_outlive_a_parent_that_is_killed(start, long, tmp_path):
    process = start(*long, cwd=tmp_path, start_new_session=True)
    until(lambda: len(results(tmp_path)) >= 1)
    process.kill()
    process.wait()
    until(lambda: group_is_gone(process.pid), 20)


def test_a_process_that_dies_is_a_failure_in_one_line(cli, tiny, tmp_path):
    (tmp_path / "dying_task.py").write_text(DYING)
    small = ["--methods", "sngm", "--scale", "smoke", "--jobs", 2, "--out", "out"]
    code, _, err = cli("compare", "--task", "dying_task:task", *small)
    assert code == 1
    assert err.startswith("largebatch: a run's process ended without an answer (out of memory?)")
    assert "start again with fewer --jobs" in err
    assert err.count("\n") == 1


def test_ctrl_c_in_this_process_alone(cli, tiny, tmp_path, monkeypatch):
    left = iter(range(3))

    def interrupted(*arguments, original=pool.train):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(pool, "train", interrupted)
    small = ["--methods", "sngm", "--scale", "smoke", "--jobs", 1, "--out", "out"]
    code, _, err = cli("compare", "--task", tiny, *small)
    assert (code, err.count("\n")) == (130, 1)
    assert "finished runs are kept in out; the same command goes on from there" in err
    assert len(results(tmp_path)) == 3


@pytest.mark.parametrize("room", [20_000, 3_000])
def test_a_full_disk_ends_a_run_in_one_line(start, tiny, tmp_path, room):
    sets = ["--set", "checkpoint_seconds=0", "--set", "batch_size=32", "--set", "worker_size=32"]
    run = ["train", "--task", tiny, "--set", "epochs=2000", *sets, "--set", "evaluations=2000"]
    process = start(
        *run,
        *("--out", "run"),
        cwd=tmp_path,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        # A limit on the size of a file acts like a disk that is full.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("largebatch: cannot write to run: ")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line) for line in lines[:-1])


def test_a_full_disk_ends_a_comparison_in_one_line(cli, tiny, tmp_path, monkeypatch):
    left = iter(range(3))

    def full(*arguments, original=pool.train):
        if next(left, None) is None:
            raise OSError(28, "No space left on device", "out/tuning/x/metrics.jsonl")
        return original(*arguments)

    monkeypatch.setattr(pool, "train", full)
    small = ["--methods", "sngm", "--scale", "smoke", "--jobs", 1, "--out", "out"]
    code, _, err = cli("compare", "--task", tiny, *small)
    assert (code, err.count("\n")) == (1, 1)
    assert "No space left on device: 'out/tuning/x/metrics.jsonl'; finished runs are kept in" in err
    assert len(results(tmp_path)) == 3
