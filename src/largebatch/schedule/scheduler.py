"""A schedule as one of torch's LR schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .base import Schedule

__all__ = ["lr_scheduler"]


def lr_scheduler(
    optimizer: Optimizer, schedule: Schedule | Sequence[Schedule], last_epoch: int = -1
) -> LambdaLR:
    """Return a scheduler that sets each group's rate to its initial rate times the factor.

    Call its `step()` once after each optimizer step: the "epoch" of torch's schedulers is a step
    here. Its state_dict holds numbers only, not the schedule, and loads with `weights_only=True`.
    On a resume build optimizer and scheduler first, then load the states of both.

    Args:
        optimizer: whose groups' rates are the peak rates.
        schedule: one for all groups, or one a group.
        last_epoch: as in torch: the last step of an earlier run, -1 to start.

    Raises:
        TypeError: something else than schedules was given.
        ValueError: the number of schedules is not that of groups.

    Example:
        >>> import torch
        >>> from largebatch.schedule import Linear
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=8.0)
        >>> scheduler = lr_scheduler(optimizer, Linear(total=4))
        >>> optimizer.step(); scheduler.step()
        >>> scheduler.get_last_lr()
        [6.0]
    """
    groups = len(optimizer.param_groups)
    schedules = [schedule] * groups if isinstance(schedule, Schedule) else list(schedule)
    for each in schedules:
        if not isinstance(each, Schedule):
            raise TypeError(
                f"lr_scheduler needs schedules of largebatch.schedule, got {each!r}: pass other "
                "functions to torch.optim.lr_scheduler.LambdaLR itself"
            )
    if len(schedules) != groups:
        raise ValueError(
            f"the optimizer has {groups} parameter groups, got {len(schedules)} schedules: give "
            "one schedule for all groups, or one for each"
        )
    return LambdaLR(optimizer, [_function(each) for each in schedules], last_epoch)


def _function(schedule: Schedule) -> Callable[[int], float]:
    # LambdaLR writes the attributes of callable objects into its state_dict, where a wrapped
    # schedule would keep it from loading with weights_only=True; of a function it keeps nothing.
    return lambda step: schedule(step)
