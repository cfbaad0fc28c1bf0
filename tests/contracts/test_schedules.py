"""What every schedule that largebatch.schedule exports must do; a new one is picked up by itself.

Examples are made from the types of a schedule's fields, so that no schedule is named here.
"""

import copy
import dataclasses
import inspect
import io
import json
import math
import pickle
import typing

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, SequentialLR

from largebatch import schedule
from largebatch.schedule import Schedule, lr_scheduler

SCHEDULES = [
    each
    for each in (getattr(schedule, name) for name in schedule.__all__)
    if inspect.isclass(each) and issubclass(each, Schedule) and not inspect.isabstract(each)
]
VALUES = {int: 6, float: 0.25, tuple[int, ...]: (3, 7), Schedule: schedule.Linear(total=9)}

pytestmark = pytest.mark.parametrize("cls", SCHEDULES, ids=lambda cls: cls.__name__)


def example(cls):
    types = typing.get_type_hints(cls)
    return cls(**{field.name: VALUES[types[field.name]] for field in dataclasses.fields(cls)})


def sgd(lr=0.5):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)


def run(optimizer, scheduler, steps):
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_gives_a_plain_finite_factor_at_every_step(cls):
    course = example(cls)
    for step in [*range(20), 10**6]:
        factor = course(step)
        assert type(factor) is float
        assert math.isfinite(factor)
        assert factor >= 0


def test_has_no_memory(cls):
    course = example(cls)
    forwards = [course(step) for step in range(12)]
    assert [course(step) for step in reversed(range(12))] == forwards[::-1]


def test_is_a_frozen_value(cls):
    course = example(cls)
    assert course == example(cls)
    assert hash(course) == hash(example(cls))
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(course, name, 1)
    assert pickle.loads(pickle.dumps(course)) == copy.deepcopy(course) == course
    assert eval(repr(course), vars(schedule)) == course
    json.dumps(dataclasses.asdict(course))


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_sets_the_rate_of_each_step(cls, kind):
    course, optimizer = example(cls), sgd(kind(0.5))
    rates = run(optimizer, lr_scheduler(optimizer, course), 12)
    assert rates == pytest.approx([0.5 * course(step) for step in range(12)])


def test_a_resumed_run_equals_an_uninterrupted_one(cls):
    # Red: a state that weights_only refuses, or that forgets the step or the peak.
    optimizer = sgd()
    whole = run(optimizer, lr_scheduler(optimizer, example(cls)), 12)
    first = sgd()
    scheduler = lr_scheduler(first, example(cls))
    run(first, scheduler, 5)
    states = saved([first.state_dict(), scheduler.state_dict()])
    second = sgd(lr=9.0)
    resumed = lr_scheduler(second, example(cls))
    for each, state in zip((second, resumed), states, strict=True):
        each.load_state_dict(state)
    assert run(second, resumed, 7) == whole[5:]
    json.dumps(scheduler.state_dict())


def test_goes_into_torch_s_sequence_counted_from_its_own_start(cls):
    optimizer = sgd()
    parts = [ConstantLR(optimizer, 0.1, 100), lr_scheduler(optimizer, example(cls))]
    rates = run(optimizer, SequentialLR(optimizer, parts, milestones=[4]), 12)
    course = example(cls)
    assert rates == pytest.approx([0.05] * 4 + [0.5 * course(step) for step in range(8)])


def test_goes_into_torch_s_chain(cls):
    optimizer = sgd()
    chain = ChainedScheduler([lr_scheduler(optimizer, example(cls))], optimizer=optimizer)
    assert run(optimizer, chain, 8) == pytest.approx([0.5 * example(cls)(t) for t in range(8)])


def test_there_is_something_to_test(cls):
    assert len(SCHEDULES) >= 7
