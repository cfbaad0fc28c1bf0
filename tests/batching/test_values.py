"""The base values and those in the groups: who may write them, and that nothing drifts."""

import copy

import pytest
import torch
from torch.optim import lr_scheduler as torchs
from torch.utils._python_dispatch import TorchDispatchMode

from largebatch.batching import BatchSizeSchedule, Course, Stages

BASE = 8
COURSE = Stages({0: 8, 4: 32, 6: 16, 9: 4, 13: 64}, "steps")
FACTORS = [1] * 4 + [4] * 2 + [2] * 3 + [0.5] * 4 + [8] * 99


def optimizer(make=torch.optim.SGD, lr=0.3, **options):
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": lr / 4}]
    return make(groups, lr=lr, **options)


def values(opt, *options):
    return [[copy.deepcopy(group[o]) for o in ("lr", *options)] for group in opt.param_groups]


class Wild(Course):
    """Another batch at every step."""

    def __call__(self, position, current, noise_scale):
        return 1 + position.step * 7919 % 97

    def sizes(self):
        return ()


@pytest.mark.parametrize("tensor", [False, True])
def test_nothing_drifts_over_ten_thousand_changes(tensor):
    lr = torch.tensor(0.1) if tensor else 0.1
    opt = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=lr, betas=(0.9, 0.999))
    before = copy.deepcopy({k: v for k, v in opt.param_groups[0].items() if k != "params"})
    schedule = BatchSizeSchedule(opt, Wild(), base_batch=7)
    for _ in range(10_000):
        schedule.step()
    with schedule.unscaled():
        assert {k: v for k, v in opt.param_groups[0].items() if k != "params"} == before


def test_a_plateau_in_unscaled_cuts_the_base_rate():
    opt = optimizer()
    plateau = torchs.ReduceLROnPlateau(opt, factor=0.5, patience=0)
    schedule = BatchSizeSchedule(opt, Stages({0: 8, 2: 32}, "steps"), base_batch=BASE)
    for loss in (3.0, 2.0, 2.5, 1.0):
        opt.step()
        schedule.step()
        with schedule.unscaled():
            plateau.step(loss)
    assert plateau.get_last_lr() == [0.15, 0.0375]
    assert values(opt) == [[0.6], [0.15]]


def test_unscaled_goes_back_also_after_an_exception():
    opt = optimizer()
    schedule = BatchSizeSchedule(opt, Stages({0: 32}, "steps"), base_batch=BASE)

    def fail():
        with schedule.unscaled():
            assert opt.param_groups[0]["lr"] == 0.3
            opt.param_groups[0]["lr"] = 0.6
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert values(opt) == [[2.4], [0.3]]
    schedule.step()


@pytest.mark.parametrize("lr", [0.3, torch.tensor(0.3)], ids=["number", "tensor"])
def test_a_value_that_something_else_wrote_is_an_error(lr):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    other = torchs.ExponentialLR(opt, 0.5)
    schedule = BatchSizeSchedule(opt, Stages({0: 32}, "steps"), base_batch=BASE)
    opt.step()
    schedule.step()
    other.step()
    with pytest.raises(RuntimeError, match=r"param_groups\[0\]\['lr'\] is .*scheduler=.*unscaled"):
        schedule.step()
    with pytest.raises(RuntimeError, match="something else writes it"), schedule.unscaled():
        pass
    assert schedule.position.step == 1


def test_a_beta_that_something_else_wrote_is_an_error():
    opt = optimizer(torch.optim.AdamW)
    schedule = BatchSizeSchedule(opt, Stages({0: 32}, "steps"), base_batch=BASE)
    opt.param_groups[1]["betas"] = (0.5, 0.9)
    with pytest.raises(RuntimeError, match=r"param_groups\[1\]\['betas'\] is \(0.5, 0.9\)"):
        schedule.step()


class NoReading(TorchDispatchMode):
    """Fails where a tensor's value is read on the host, which an accelerator would wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_tensor_rate_stays_the_same_tensor_and_is_never_read():
    lr = torch.tensor(0.25, dtype=torch.float64)
    opt = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    schedule = BatchSizeSchedule(opt, COURSE, base_batch=BASE, scheduler=torchs.StepLR(opt, 1000))
    for step in range(15):
        assert opt.param_groups[0]["lr"] is lr
        assert float(lr) == 0.25 * FACTORS[step]
        assert schedule.get_last_lr()[0] is not lr
        opt.step()
        with NoReading():
            schedule.observe(torch.tensor(5.0))
            schedule.step()
    with pytest.raises(AssertionError), NoReading():
        float(lr)


def test_a_group_added_outside_unscaled_is_an_error_before_anything_moves():
    opt = optimizer()
    schedule = BatchSizeSchedule(opt, Stages({0: 16}, "steps"), base_batch=BASE)
    opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.25})
    message = r"knows 2 parameter groups, .* has 3 now: .* inside `with schedule.unscaled\(\):`"
    for use in (schedule.step, schedule.state_dict):
        with pytest.raises(RuntimeError, match=message):
            use()
    with pytest.raises(RuntimeError, match=message), schedule.unscaled():
        pass
    assert schedule.position.step == 0
    assert values(opt) == [[0.6], [0.15], [0.25]]


def test_a_group_added_inside_unscaled_joins_with_its_base_values_at_once():
    schedules = []
    for _ in range(2):
        opt = optimizer()
        decay = torchs.ExponentialLR(opt, 0.5)
        course = Stages({0: 16}, "steps")
        schedules.append(BatchSizeSchedule(opt, course, base_batch=BASE, scheduler=decay))
        with schedules[-1].unscaled():
            opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.25})
        assert values(opt) == [[0.6], [0.15], [0.5]]
    schedules[0].optimizer.step()
    schedules[0].step()
    schedules[1].load_state_dict(schedules[0].state_dict())
    for schedule in schedules:
        assert schedule.get_last_lr() == [0.15, 0.0375, 0.125]  # two steps of the decay


def test_betas_that_are_tensors_stay_the_same_tensors():
    betas = (torch.tensor(0.9), torch.tensor(0.99))
    opt = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.1, betas=betas)
    schedule = BatchSizeSchedule(opt, Stages({0: 16, 1: 8}, "steps"), base_batch=BASE)
    found = opt.param_groups[0]["betas"]
    assert [float(beta) for beta in found] == pytest.approx([0.81, 0.9801])
    assert all(map(lambda a, b: a is b, found, betas))
    schedule.step()
    assert [float(beta) for beta in betas] == pytest.approx([0.9, 0.99])
