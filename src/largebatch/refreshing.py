"""Showing the loss, at the clean weights, to what needs more of it than its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .clean import RunningStatistics
from .losses import one_number
from .passes import Passes
from .settings import Settings

__all__ = ["refresh", "refreshes"]


def refreshes(settings: Settings) -> bool:
    """Whether an optimizer or the perturbation needs to see the loss."""
    perturb = settings.perturb
    return bool(settings.refreshed()) or (perturb is not None and perturb.refreshes)


def refresh(
    model: nn.Module,
    settings: Settings,
    passes: Passes,
    fn: Callable[..., Tensor],
    batch: tuple[Any, ...],
) -> None:
    """Show ``fn(*batch)`` to those, one after another, and leave running statistics as they are."""
    processes = settings.processes
    # Else each process would go by its own batch, and the replicas drift apart.
    over = {} if processes.group is None else {"process_group": processes.group}
    # A perturbation was told when it was made how to go about it.
    how = over if processes.twice else {"method": "differences", **over}
    statistics = RunningStatistics(model)
    statistics.begin_step()
    try:
        with processes.apart():
            for each in settings.refreshed():
                each.refresh(fn, *batch, **how)
                statistics.to_start()
            perturb = settings.perturb
            if perturb is not None and perturb.refreshes:
                found = perturb.refresh(
                    lambda: one_number(fn(*batch)), settings.parameters(), passes.step, **over
                )
                passes.shown = [each.detach() for each in found]
    finally:
        statistics.to_start()
