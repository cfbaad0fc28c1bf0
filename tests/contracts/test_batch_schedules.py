"""What every course that largebatch.batching exports must do; a new one is picked up by itself.

Examples are made from the names and types of a course's fields, so that no course is named here.
"""

import copy
import dataclasses
import inspect
import io
import itertools
import pickle
import typing
from collections.abc import Mapping

import pytest
import torch

from largebatch import batching
from largebatch.batching import BatchSizeSchedule, Course, Position

COURSES = [
    each
    for each in (getattr(batching, name) for name in batching.__all__)
    if inspect.isclass(each) and issubclass(each, Course) and not inspect.isabstract(each)
]
# Sizes by the names that courses give them; the rest by type.
NAMED = {"start": 8, "smallest": 8, "end": 32, "largest": 32, "increment": 8, "every": 3}
VALUES = {int: 8, float: 90.0, bool: True, str: "examples", int | None: None}
LENGTH = 100

pytestmark = pytest.mark.parametrize("cls", COURSES, ids=lambda cls: cls.__name__)


def value(name, kind):
    if name in NAMED:
        return NAMED[name]
    if any(typing.get_origin(each) is Mapping for each in typing.get_args(kind)):
        return {0: 8, 40: 16, 120: 32}
    return VALUES[kind]


def example(cls):
    types = typing.get_type_hints(cls)
    needed = [
        field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
    ]
    return cls(**{name: value(name, types[name]) for name in needed})


def schedule_of(cls):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5, momentum=0.9)
    schedule = BatchSizeSchedule(optimizer, example(cls), base_batch=8)
    return schedule, schedule.sampler(LENGTH, seed=1)


def run(cls, stop=None, state=None):
    """(size, rate, indices) of each step of three epochs, or until `stop`; the state after it."""
    schedule, sampler = schedule_of(cls)
    if state is not None:
        schedule.load_state_dict(state)
    found = []
    while schedule.epoch < 3:
        for indices in sampler:
            rate = schedule.optimizer.param_groups[0]["lr"]
            found.append((schedule.batch_size, rate, indices))
            schedule.observe(5.0 * schedule.position.step)
            schedule.optimizer.step()
            schedule.step()
            if len(found) == stop:
                return found, schedule.state_dict()
    return found, schedule.state_dict()


def test_gives_a_whole_size_that_it_has_said_beforehand(cls):
    found, _ = run(cls)
    sizes = [size for size, _, _ in found]
    assert all(type(size) is int for size in sizes)
    assert set(sizes) <= set(example(cls).sizes())
    assert len(set(sizes)) > 1
    assert [len(indices) for _, _, indices in found] == sizes
    assert [rate for _, rate, _ in found] == [0.5 * size / 8 for size in sizes]


def test_is_a_frozen_value(cls):
    course = example(cls)
    assert course == example(cls)
    assert hash(course) == hash(example(cls))
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(course, name, 1)
    assert pickle.loads(pickle.dumps(course)) == copy.deepcopy(course) == course
    assert eval(repr(course), vars(batching)) == course


def test_has_no_memory(cls):
    course = example(cls)
    places = [Position(step=3 * i, examples=24 * i, length=LENGTH) for i in range(1, 12)]
    forwards = [course(place, 16, 20.0) for place in places]
    assert [course(place, 16, 20.0) for place in reversed(places)] == forwards[::-1]


def test_a_resume_after_any_step_equals_the_uninterrupted_run(cls):
    whole, _ = run(cls)
    for stop in range(1, len(whole)):
        head, state = run(cls, stop)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        tail, _ = run(cls, state=torch.load(file, weights_only=True))
        assert head + tail == whole, stop


def test_every_epoch_has_each_example_at_most_once(cls):
    schedule, sampler = schedule_of(cls)
    schedule.observe(20.0)
    for _ in range(2):
        indices = []
        for each in sampler:
            indices.append(each)
            schedule.step()
        flat = list(itertools.chain(*indices))
        assert len(set(flat)) == len(flat) > LENGTH - max(example(cls).sizes())


def test_its_state_is_not_anothers(cls):
    schedule, _ = schedule_of(cls)
    state = schedule.state_dict()
    assert state["course"] == repr(example(cls))
    schedule.load_state_dict(state)
    with pytest.raises(ValueError, match=r"the state is of course='another', got"):
        schedule.load_state_dict(state | {"course": "another"})
