"""Schedules as torch's LR schedulers: groups and errors; the rest is in the contract suite."""

import pytest
import torch

from largebatch.schedule import Constant, Linear, lr_scheduler


def two_groups():
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    return torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 2.0}], lr=1.0)


def test_one_schedule_serves_all_groups_each_from_its_own_rate():
    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, Linear(4))
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.75, 1.5]


def test_each_group_may_have_its_own():
    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, [Linear(4), Constant(0.5)])
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.75, 1.0]


def test_what_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match="2 parameter groups, got 3 schedules: give one"):
        lr_scheduler(two_groups(), [Constant()] * 3)
    with pytest.raises(TypeError, match=r"needs schedules of largebatch\.schedule, got <function"):
        lr_scheduler(two_groups(), [lambda step: 1.0] * 2)
