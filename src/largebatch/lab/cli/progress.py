"""Progress bars with the time that remains, weighted by the work of each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..compare.pool import Job
from ..compare.run import Stage

__all__ = ["bar", "stages"]


@contextmanager
def bar(quiet: bool = False) -> Iterator[Progress]:
    """A progress display on standard error, so that standard output stays the result's.

    It shows nothing before its ``start()``, so that bad input is one line and no more, and nothing
    where standard error is not a terminal.
    """
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_interactive,
    )
    try:
        yield progress
    finally:
        progress.stop()


@contextmanager
def stages(heading: str, quiet: bool = False) -> Iterator[Stage]:
    """What a comparison calls to show its stages, one bar each, below a heading."""
    with bar(quiet) as progress:

        @contextmanager
        def stage(name: str, jobs: Sequence[Job]) -> Iterator[Callable[[Job], None]]:
            if not quiet and not progress.tasks:
                print(heading, flush=True)
            progress.start()
            ended = 0
            label = f"0/{len(jobs)} runs"
            row = progress.add_task(name, total=sum(j.work for j in jobs) or None, count=label)

            def done(job: Job) -> None:
                nonlocal ended
                ended += 1
                progress.update(row, advance=job.work, count=f"{ended}/{len(jobs)} runs")

            yield done

        yield stage
