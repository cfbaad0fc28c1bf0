"""Warnings point at the line of the user's that led to them."""

import inspect

import pytest
from torch.utils.data import DataLoader

from largebatch.batching import FollowNoise, Position, Stages


def line_of(text):
    """The number of the one line of this file that holds `text`, which must not be here whole."""
    lines = inspect.getsource(inspect.getmodule(line_of)).splitlines()
    (number,) = [i for i, line in enumerate(lines, start=1) if line.strip() == text]
    return number


def check(warned, text):
    (warning,) = warned
    assert (warning.filename, warning.lineno) == (__file__, line_of(text))


def test_a_decision_without_a_noise_scale_points_at_step(schedule_of):
    schedule, _ = schedule_of(FollowNoise(4, 16, every=1))
    with pytest.warns(UserWarning, match="needs a positive, finite noise scale") as warned:
        schedule.step()
    check(warned, "schedule" + ".step()")


def test_a_decision_asked_for_by_a_loader_points_at_the_loop(schedule_of):
    _, sampler = schedule_of(FollowNoise(4, 16, every=1))
    batches = iter(DataLoader(range(50), batch_sampler=sampler))
    next(batches)
    with pytest.warns(UserWarning, match="needs a positive, finite noise scale") as warned:
        next(batches)  # the second
    check(warned, "next(batches)" + "  # the second")


def test_a_course_called_by_hand_points_at_the_call():
    course = FollowNoise(4, 16, every=1)
    with pytest.warns(UserWarning, match="needs a positive, finite noise scale") as warned:
        course(Position(step=1), 4, None)
    check(warned, "course(Position(step=1), 4" + ", None)")


def test_batches_that_come_again_point_at_the_loop(schedule_of):
    _, sampler = schedule_of(Stages({0: 10}, "steps"))
    loader = DataLoader(range(50), batch_sampler=sampler)
    list(loader)
    with pytest.warns(UserWarning, match="the rest comes again") as warned:
        next(iter(loader))
    check(warned, "next(iter" + "(loader))")
