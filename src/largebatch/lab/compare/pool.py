"""Many runs at once: one process for each, one thread in each; a finished run is never repeated."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..train import train

__all__ = ["Job", "Result", "WorkerDied", "run_all"]

Result = dict[str, Any]


class WorkerDied(RuntimeError):
    """A process that was running a job ended without an answer, for example out of memory."""


@dataclass(frozen=True)
class Job:
    """A run and its folder."""

    config: RunConfig
    out: Path


def run_all(
    jobs: Sequence[Job],
    processes: int,
    data_dir: Path | None,
    done: Callable[[Job], None],
) -> dict[Job, Result]:
    """Run all jobs, the longest first, and return their results.

    Args:
        jobs: what to run.
        processes: how many at once; with one, everything runs in this process.
        data_dir: where the data is.
        done: called for each job that has ended.

    Raises:
        KeyboardInterrupt: interrupted; running jobs are ended, finished ones kept.
        WorkerDied: a process died; finished jobs are kept.
    """
    ordered = sorted(jobs, key=cost, reverse=True)
    if processes == 1:
        results = {}
        for job in ordered:
            results[job] = train(job.config, job.out, data_dir)
            done(job)
        return results
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_ignore_interrupt) as pool:
        try:
            futures = {pool.submit(train, j.config, j.out, data_dir): j for j in ordered}
            return _collect(futures, done)
        except BrokenProcessPool as error:
            raise WorkerDied(
                "a run's process ended without an answer (out of memory?); finished runs are "
                "kept: start again with fewer --jobs to go on"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def cost(job: Job) -> float:
    """Work of a run in examples, good enough to order jobs and to weigh a progress bar."""
    c = job.config
    return float(c.epochs * 1e3 if c.updates is None else c.updates * c.batch_size)


def _collect(
    futures: dict[Future[Result], Job], done: Callable[[Job], None]
) -> dict[Job, Result]:
    results: dict[Job, Result] = {}
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in ended:
            results[futures[future]] = future.result()
            done(futures[future])
    return results


def _ignore_interrupt() -> None:
    # The terminal sends Ctrl-C to every process; the parent alone answers it, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
