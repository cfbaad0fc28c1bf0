"""Progress bars with the time that remains, weighted by the work of each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..compare.pool import Job, cost
from ..compare.run import Stage

__all__ = ["bar", "stages"]


def bar(quiet: bool = False) -> Progress:
    """A progress display on standard error, so that standard output stays the result's."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )


@contextmanager
def stages(quiet: bool = False) -> Iterator[Stage]:
    """What a comparison calls to show its stages, one bar each."""
    with bar(quiet) as progress:

        @contextmanager
        def stage(name: str, jobs: Sequence[Job]) -> Iterator[Callable[[Job], None]]:
            ended = 0
            label = f"0/{len(jobs)} runs"
            row = progress.add_task(name, total=sum(map(cost, jobs)) or None, count=label)

            def done(job: Job) -> None:
                nonlocal ended
                ended += 1
                progress.update(row, advance=cost(job), count=f"{ended}/{len(jobs)} runs")

            yield done

        yield stage
