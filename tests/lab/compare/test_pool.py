"""Runs in processes of their own: what Ctrl-C finds them at."""

import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import pytest

from largebatch.lab.compare.pool import Job, Pool
from largebatch.lab.config import RunConfig


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
