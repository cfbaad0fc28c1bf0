"""Many runs at once: one process for each, one thread in each; a finished run is never repeated."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any

from ..config import RunConfig
from ..errors import Failed
from ..records import read_result
from ..train import train

__all__ = ["Job", "Pool", "Result", "WorkerDied"]

Result = dict[str, Any]
GRACE = 10.0
"""Seconds for a process to end that was told to: until then it holds its run's folder."""


class WorkerDied(Failed):
    """A process that was running a job ended without an answer, for example out of memory."""


@dataclass(frozen=True)
class Job:
    """A run, its folder, and its work in examples: orders jobs and weighs progress."""

    config: RunConfig
    out: Path
    work: int


class Pool:
    """Runs jobs; its processes start with the first job that is not finished, and stay until exit.

    Args:
        processes: how many at once; with one, everything runs in this process.
        data_dir: where the data is.
    """

    def __init__(self, processes: int, data_dir: Path | None) -> None:
        """Start nothing yet."""
        self._processes = processes
        self._data_dir = data_dir
        self._executor: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()

    def __enter__(self) -> Pool:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes; in the middle of their runs where something went wrong."""
        if self._executor is None:
            return
        if kind is None:
            self._executor.shutdown()
            return
        with _interrupt_blocked():  # a second Ctrl-C waits for the end
            self._executor.shutdown(wait=False, cancel_futures=True)
            ours = set(multiprocessing.active_children()) - self._others
            for process in ours:
                process.terminate()
            for process in ours:
                process.join(GRACE)

    def run(self, jobs: Sequence[Job], done: Callable[[Job], None]) -> dict[Job, Result]:
        """Run all jobs, the longest first, and return their results.

        Args:
            jobs: what to run.
            done: called for each job that has ended.

        Raises:
            KeyboardInterrupt: interrupted; finished runs are kept.
            WorkerDied: a process died; finished runs are kept.
        """
        results = {job: r for job in jobs if (r := read_result(job.out)) is not None}
        for job in results:
            done(job)
        left = sorted((j for j in jobs if j not in results), key=lambda j: j.work, reverse=True)
        run = self._in_processes if self._processes > 1 else self._here
        with closing(run(left)) as ended:
            for job, result in ended:
                results[job] = result
                done(job)
        return results

    def _here(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Result], None, None]:
        for job in jobs:
            yield job, train(job.config, job.out, self._data_dir)

    def _in_processes(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Result], None, None]:
        ended: SimpleQueue[Future[Result] | None] = SimpleQueue()
        try:
            with _interrupt_told(lambda: ended.put(None)):
                with _interrupt_blocked():
                    futures = {self._submit(job): job for job in jobs}
                for future in futures:
                    future.add_done_callback(ended.put)
                for _ in futures:
                    if (one := ended.get()) is None:
                        raise KeyboardInterrupt
                    yield futures[one], one.result()
        except BrokenProcessPool as error:
            raise WorkerDied(
                "a run's process ended without an answer (out of memory?); finished runs are "
                "kept: start again with fewer --jobs to go on"
            ) from error

    def _submit(self, job: Job) -> Future[Result]:
        if self._executor is None:
            self._others = set(multiprocessing.active_children())
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._processes, context, initializer=_obey)
        return self._executor.submit(train, job.config, job.out, self._data_dir)


@contextmanager
def _interrupt_told(tell: Callable[[], None]) -> Iterator[None]:
    # Raised wherever this thread happens to be, Ctrl-C may leave the lock of a future taken for
    # good, and the executor's thread, and with it the exit of the whole command, waits for it.
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    heard = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        heard.set()
        tell()

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if heard.is_set():  # after the last job
        raise KeyboardInterrupt


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    # The terminal sends Ctrl-C to every process. The parent alone answers it, and ends the others:
    # they inherit the block from here, so that none prints a trace while it is still importing.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # with the first process it would start, and lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey() -> None:
    """In a process of the pool: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
