"""Runs in processes of their own: what Ctrl-C finds them at."""

import multiprocessing
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from largebatch.lab.compare.pool import Job, Pool
from largebatch.lab.config import RunConfig


@pytest.fixture(autouse=True)
def hearing():
    """Who starts tests in the background may have them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def locks(monkeypatch):
    """Ctrl-C comes while this thread holds the lock of a future: these locks."""
    held = []
    original = Future.add_done_callback

    def amid(future, told):
        held.append(future._condition)
        held[-1].acquire()
        signal.raise_signal(signal.SIGINT)
        held[-1].release()
        original(future, told)

    monkeypatch.setattr(Future, "add_done_callback", amid)
    yield held
    for lock in held:
        if lock._is_owned():
            lock.release()


def test_ctrl_c_leaves_no_lock_behind_that_the_exit_would_wait_for(ask, answer, locks):
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        answer(ask(), processes=2)
    assert locks
    end = time.monotonic() + 30
    while set(threading.enumerate()) - before:
        assert time.monotonic() < end, "a thread of the executor waits for good"
        time.sleep(0.01)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_behind_the_last_run_is_not_lost(tiny, tmp_path):
    config = RunConfig(task=tiny, epochs=1, batch_size=32, worker_size=32)
    jobs = [Job(replace(config, seed=seed), tmp_path / str(seed), 1) for seed in (0, 1)]
    ended = []

    def late(job):
        ended.append(job)
        if len(ended) == len(jobs):
            signal.raise_signal(signal.SIGINT)

    with Pool(2, None) as pool, pytest.raises(KeyboardInterrupt):
        pool.run(jobs, late)
    assert set(ended) == set(jobs)


class Broken(Exception):
    """Of who is told of a run."""


def test_an_error_on_the_way_ends_what_runs_before_it_is_told(tiny, tmp_path):
    # Red: processes go on, and hold their runs' folders; Ctrl-C stays what it was for the pool.
    config = RunConfig(task=tiny, epochs=1, batch_size=32, worker_size=32)
    jobs = [Job(config, tmp_path / "a", 2), Job(replace(config, epochs=100_000), tmp_path / "b", 1)]

    def broken(job):
        raise Broken

    before = set(multiprocessing.active_children())
    with pytest.raises(Broken) as caught, Pool(2, None) as pool:
        pool.run(jobs, broken)
    assert caught.tb is not None  # whose frames hold what is not closed
    assert set(multiprocessing.active_children()) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


BLOCKED = """
import signal, sys, time
from multiprocessing import get_context
from pathlib import Path
from largebatch.lab.compare.pool import _interrupt_blocked

if __name__ == "__main__":
    with _interrupt_blocked():
        process = get_context("spawn").Process(target=time.sleep, args=(60,))
        process.start()
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigBlk"))
    process.kill()
    print(bool(int(mask.split()[1], 16) >> (signal.SIGINT - 1) & 1))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc says who blocks what")
def test_a_process_that_starts_does_not_hear_ctrl_c(start, tmp_path):
    # Red: the first process lifts the block, and prints a trace while it imports.
    (tmp_path / "blocked.py").write_text(BLOCKED)
    process = start(code="import runpy; runpy.run_path('blocked.py', run_name='__main__')",
                    cwd=tmp_path)  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("True\n", "")
