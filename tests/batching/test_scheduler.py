"""The schedule around every scheduler of torch: the true rate at every step."""

import copy
import inspect
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as torchs

import largebatch as lb
from largebatch.batching import BatchSizeSchedule, Position, Stages

BASE = 8
TICKS = 40


def optimizer(make=torch.optim.SGD, lr=0.3, **options):
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": lr / 4}]
    return make(groups, lr=lr, **options)


def sequential(opt):
    first = torchs.LinearLR(opt, 0.1, total_iters=5)
    return torchs.SequentialLR(opt, [first, torchs.CosineAnnealingLR(opt, T_max=35)], [5])


def chained(opt):
    first = torchs.LinearLR(opt, 0.1, total_iters=5)
    return torchs.ChainedScheduler([first, torchs.ExponentialLR(opt, 0.9)], optimizer=opt)


SCHEDULERS = {
    "LambdaLR": lambda opt: torchs.LambdaLR(opt, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda opt: torchs.MultiplicativeLR(opt, lambda t: 0.95),
    "StepLR": lambda opt: torchs.StepLR(opt, 7),
    "MultiStepLR": lambda opt: torchs.MultiStepLR(opt, [5, 20, 21]),
    "ConstantLR": lambda opt: torchs.ConstantLR(opt, 0.2, total_iters=9),
    "LinearLR": lambda opt: torchs.LinearLR(opt, 0.1, 0.7, total_iters=17),
    "ExponentialLR": lambda opt: torchs.ExponentialLR(opt, 0.9),
    "PolynomialLR": lambda opt: torchs.PolynomialLR(opt, TICKS, 2.0),
    "CosineAnnealingLR": lambda opt: torchs.CosineAnnealingLR(opt, T_max=TICKS, eta_min=1e-3),
    "CosineAnnealingWarmRestarts": lambda opt: torchs.CosineAnnealingWarmRestarts(opt, 6, 2),
    "CyclicLR": lambda opt: torchs.CyclicLR(opt, 0.01, 0.3, step_size_up=6),
    "OneCycleLR": lambda opt: torchs.OneCycleLR(opt, 0.5, total_steps=TICKS + 1),
    "SWALR": lambda opt: torch.optim.swa_utils.SWALR(opt, 0.01),
    "SequentialLR": sequential,
    "ChainedScheduler": chained,
    "ours": lambda opt: lb.schedule.lr_scheduler(
        opt, lb.schedule.WarmUp(5, 0.1, lb.schedule.Cosine(TICKS))
    ),
}
inner = pytest.mark.parametrize("name", SCHEDULERS)


def values(opt, *options):
    return [[copy.deepcopy(group[o]) for o in ("lr", *options)] for group in opt.param_groups]


def alone(name, make=torch.optim.SGD, ticks=TICKS, options=(), **settings):
    """The values of the scheduler alone after each of its steps."""
    opt = optimizer(make, **settings)
    scheduler = SCHEDULERS[name](opt)
    found = [values(opt, *options)]
    for _ in range(ticks):
        opt.step()
        scheduler.step()
        found.append(values(opt, *options))
    return found


def test_every_scheduler_of_torch_is_tried():
    known = {
        name
        for name, each in vars(torchs).items()
        if inspect.isclass(each) and issubclass(each, torchs.LRScheduler) and name[0] != "_"
    }
    assert known - {"LRScheduler", "ReduceLROnPlateau"} <= set(SCHEDULERS)


@inner
def test_a_constant_batch_is_the_scheduler_alone_bit_for_bit(name):
    opt = optimizer(momentum=0.9)
    schedule = BatchSizeSchedule(
        opt, Stages({0: BASE}, "steps"), base_batch=BASE, scheduler=SCHEDULERS[name](opt)
    )
    expected = alone(name, options=("momentum",), momentum=0.9)
    for step in range(TICKS):
        assert values(opt, "momentum") == expected[step]
        opt.step()
        schedule.step()


COURSE = Stages({0: 8, 4: 32, 6: 16, 9: 4, 13: 64}, "steps")
FACTORS = [1] * 4 + [4] * 2 + [2] * 3 + [0.5] * 4 + [8] * 99
SIZES = [int(BASE * factor) for factor in FACTORS]


@inner
def test_the_rate_is_the_schedulers_at_that_clock_times_the_factor(name):
    opt = optimizer(momentum=0.9)
    schedule = BatchSizeSchedule(opt, COURSE, base_batch=BASE, scheduler=SCHEDULERS[name](opt))
    expected, examples = alone(name, options=("momentum",), momentum=0.9), 0
    for step in range(15):
        clock = expected[examples // BASE]
        assert schedule.batch_size == SIZES[step]
        assert schedule.get_last_lr() == [lr for lr, _ in values(opt, "momentum")]
        for (lr, momentum), (base, base_momentum) in zip(
            values(opt, "momentum"), clock, strict=True
        ):
            assert lr == pytest.approx(base * FACTORS[step], rel=1e-12, abs=1e-15)
            assert momentum == base_momentum
        examples += SIZES[step]
        opt.step()
        schedule.step()
    assert examples // BASE > 20  # the scheduler inside has come far


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_betas_that_the_scheduler_moves_are_moved_on(name):
    settings = {"make": torch.optim.AdamW, "options": ("betas",), "betas": (0.8, 0.99)}
    expected, examples = alone(name, **settings), 0
    opt = optimizer(torch.optim.AdamW, betas=(0.8, 0.99))
    schedule = BatchSizeSchedule(opt, COURSE, base_batch=BASE, scheduler=SCHEDULERS[name](opt))
    for step in range(15):
        kappa = FACTORS[step]
        for (lr, betas), (base, base_betas) in zip(
            values(opt, "betas"), expected[examples // BASE], strict=True
        ):
            assert lr == pytest.approx(base * kappa**0.5, rel=1e-12)
            assert betas == pytest.approx([beta**kappa for beta in base_betas], rel=1e-12)
        examples += SIZES[step]
        opt.step()
        schedule.step()


def test_without_a_scheduler_the_base_rate_stays():
    opt = optimizer()
    schedule = BatchSizeSchedule(opt, COURSE, base_batch=BASE)
    for step in range(15):
        assert [lr for (lr,) in values(opt)] == [0.3 * FACTORS[step], 0.075 * FACTORS[step]]
        opt.step()
        schedule.step()


def test_a_step_that_the_scaler_skips_is_a_step_of_the_schedule():
    weight = torch.nn.Parameter(torch.ones(1))
    opt = torch.optim.SGD([weight], lr=1.0)
    schedule = BatchSizeSchedule(opt, Stages({0: 8, 2: 16}, "steps"), base_batch=BASE)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    seen = []
    for factor in (1.0, float("inf"), 1.0):
        opt.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(opt)
        scaler.update()
        seen.append((float(weight.detach()), schedule.batch_size))
        schedule.step()
    assert seen == [(0.0, 8), (0.0, 8), (-2.0, 16)]


def test_it_is_a_scheduler_for_loops_that_look():
    opt = optimizer()
    schedule = BatchSizeSchedule(opt, COURSE, base_batch=BASE, scheduler=SCHEDULERS["StepLR"](opt))
    assert isinstance(schedule, torchs.LRScheduler)
    assert (schedule.optimizer, schedule.last_epoch, schedule._step_count) == (opt, 0, 1)
    opt.step()
    schedule.step()
    assert (schedule.last_epoch, schedule._step_count) == (1, 2)


def test_the_position_counts_and_says_so():
    schedule = BatchSizeSchedule(optimizer(), COURSE, base_batch=BASE)
    schedule.sampler(80)
    for _ in range(6):
        schedule.step()
    # 8 8 8 8 32, then 32 does not fit into the 16 that are left: a new epoch
    assert schedule.position == Position(
        step=6, examples=64 + 32, epoch=1, place=32, batch=1, length=80
    )
    assert schedule.epoch == 1


def test_the_warnings_of_torch_stay_as_they_are():
    opt = optimizer()
    schedule = BatchSizeSchedule(opt, COURSE, base_batch=BASE, scheduler=SCHEDULERS["StepLR"](opt))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.step()
        schedule.step()
