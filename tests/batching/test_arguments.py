"""What a schedule refuses before anything is written."""

import copy
import pickle

import pytest
import torch
from torch.optim import lr_scheduler as torchs

from largebatch.batching import BatchSizeSchedule, Stages

COURSE = Stages({0: 8}, "steps")


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)


REFUSED = {
    "plateau": (TypeError, "ReduceLROnPlateau wants a loss.*schedule.unscaled"),
    "foreign": (ValueError, "scheduler belongs to another optimizer"),
    "nested": (TypeError, "a BatchSizeSchedule cannot be inside another"),
    "function": (TypeError, "scheduler must be a .*LRScheduler, got function"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_scheduler_that_cannot_go_inside_is_refused_by_name(what):
    opt = optimizer()
    course = Stages({0: 8}, "steps")
    given = {
        "plateau": lambda: torchs.ReduceLROnPlateau(opt),
        "foreign": lambda: torchs.StepLR(optimizer(), 3),
        "nested": lambda: BatchSizeSchedule(opt, course, base_batch=8),
        "function": lambda: lambda step: 1.0,
    }[what]()
    error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        BatchSizeSchedule(opt, course, base_batch=8, scheduler=given)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"course": {0: 8}}, TypeError, "course must be a Course such as Stages"),
        ({"base_batch": 0}, ValueError, "base_batch must be .* at least 1, got 0"),
        ({"clock": "tokens"}, ValueError, "clock must be one of .* got 'tokens'"),
        ({"warmup_steps": -1}, ValueError, "warmup_steps must be .* at least 0, got -1"),
        ({"warmup_steps": 3, "clock": "steps"}, ValueError, "needs clock='examples', got 'steps'"),
        ({"optimizer": 3}, TypeError, "needs a torch.optim.Optimizer, got int"),
        ({"workers": object()}, ValueError, "workers= and worker_size= go together"),
        ({"worker_size": 4}, ValueError, "workers= and worker_size= go together"),
        ({"workers": 3, "worker_size": 4}, TypeError, "must have a count to set.*got int"),
    ],
)
def test_arguments_that_cannot_work_are_refused(options, error, message):
    arguments = {"optimizer": optimizer(), "course": COURSE, "base_batch": 8} | options
    with pytest.raises(error, match=message):
        BatchSizeSchedule(arguments.pop("optimizer"), arguments.pop("course"), **arguments)


def test_what_makes_no_sense_inside_unscaled_is_refused():
    schedule = BatchSizeSchedule(optimizer(), COURSE, base_batch=8)
    with schedule.unscaled():
        with pytest.raises(RuntimeError, match=r"step\(\) inside .*leave the block first"):
            schedule.step()
        with pytest.raises(RuntimeError, match=r"state_dict\(\) inside"):
            schedule.state_dict()
        with pytest.raises(RuntimeError, match=r"unscaled\(\) inside"), schedule.unscaled():
            pass


def test_a_noise_scale_of_several_numbers_is_refused():
    schedule = BatchSizeSchedule(optimizer(), COURSE, base_batch=8)
    with pytest.raises(ValueError, match=r"got a tensor of shape \(3,\): average it first"):
        schedule.observe(torch.ones(3))


def test_a_second_schedule_of_one_optimizer_is_refused_unless_the_first_is_gone():
    opt = optimizer()
    before = set(vars(opt)), set(opt.param_groups[0])
    first = BatchSizeSchedule(opt, Stages({0: 32}, "steps"), base_batch=8)
    with pytest.raises(ValueError, match="this SGD has a BatchSizeSchedule already"):
        BatchSizeSchedule(opt, Stages({0: 32}, "steps"), base_batch=8)
    assert opt.param_groups[0]["lr"] == 0.4
    first.step()
    assert (set(vars(opt)), set(opt.param_groups[0])) == before
    for each in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):  # which have no schedule
        BatchSizeSchedule(each, Stages({0: 8}, "steps"), base_batch=8)
    del first
    BatchSizeSchedule(opt, COURSE, base_batch=8)


def test_a_schedule_that_was_refused_does_not_stand_in_the_way():
    opt = optimizer()
    with pytest.raises(ValueError, match=r"got 0\.0 of kappa") as refused:
        BatchSizeSchedule(opt, COURSE, base_batch=4, rule=lambda kappa: 0.0)
    BatchSizeSchedule(opt, COURSE, base_batch=4)
    assert refused.tb  # which keeps the first alive


@pytest.mark.parametrize("scale", ["70", None, True, [70.0]])
def test_a_noise_scale_that_is_no_number_is_refused(scale):
    schedule = BatchSizeSchedule(optimizer(), COURSE, base_batch=8)
    with pytest.raises(TypeError, match=r"noise_scale must be a number or a tensor of one, got"):
        schedule.observe(scale)
    assert schedule.state_dict()["noise_scale"] is None
