"""Where workers look, as a probe is told it: one callable for each worker, giving a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["Place", "check_places"]

Place = Callable[[], AbstractContextManager[Any]]
"""Within the context that it returns, the weights are those at which one worker looks; the same at
every call, and the clean ones, bit for bit, afterwards: ``lambda: workers.at(0)``."""


def check_places(probe: str, places: Sequence[Place]) -> None:
    """Raise ValueError where there is none."""
    if not places:
        raise ValueError(
            f"{probe} needs at least one worker's place, got none: give "
            "[partial(workers.at, i) for i in range(workers.count)]"
        )
