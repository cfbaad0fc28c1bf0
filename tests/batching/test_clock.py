"""How often the scheduler inside has stepped."""

import math

import pytest
import torch

from largebatch.batching import BatchSizeSchedule, Stages

BASE = 8


def ticks_of(schedule, opt, steps):
    """How often the scheduler inside had stepped, at each step."""
    counts = []
    for _ in range(steps):
        counts.append(schedule.scheduler.last_epoch)
        opt.step()
        schedule.step()
    return counts


def counting(course, **options):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: 1.0)
    return BatchSizeSchedule(opt, course, base_batch=BASE, scheduler=scheduler, **options), opt


def test_the_clock_counts_examples_steps_or_epochs():
    course = Stages({0: 4, 3: 16, 5: 20}, "steps")
    schedule, opt = counting(course)
    assert ticks_of(schedule, opt, 8) == [0, 0, 1, 1, 3, 5, 8, 10]  # 0 4 8 12 28 44 64 84 of 8
    schedule, opt = counting(course, clock="steps")
    assert ticks_of(schedule, opt, 8) == list(range(8))
    schedule, opt = counting(course, clock="epochs")
    schedule.sampler(40)
    assert ticks_of(schedule, opt, 8) == [0, 0, 0, 0, 1, 1, 2, 2]  # 4 4 4 16, 16 20, 20 20


def test_a_warm_up_takes_its_steps_then_the_clock_catches_up_with_the_examples():
    schedule, opt = counting(Stages({0: 32}, "steps"), warmup_steps=5)
    assert ticks_of(schedule, opt, 8) == [0, 1, 2, 3, 4, 5, 24, 28]
    schedule, opt = counting(Stages({0: 4}, "steps"), warmup_steps=3)
    assert ticks_of(schedule, opt, 11) == [0, 1, 2, 3, 3, 3, 3, 3, 4, 4, 5]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("length", [256, 261, 130])
@pytest.mark.parametrize("sizes", [{0: 8}, {0: 96}, {0: 8, 1: 24, 2: 100}, {0: 5}])
def test_every_epoch_ends_where_the_base_runs_does(sizes, length, drop_last):
    each = length // BASE if drop_last else math.ceil(length / BASE)
    schedule, opt = counting(Stages(sizes, "epochs"))
    sampler = schedule.sampler(length, drop_last=drop_last)
    for epoch in range(4):
        assert (schedule.epoch, schedule.scheduler.last_epoch) == (epoch, epoch * each)
        for _ in sampler:
            ticks = schedule.scheduler.last_epoch
            assert ticks == epoch * each + min(each, schedule.position.place // BASE)
            opt.step()
            schedule.step()


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_one_cycle_written_for_the_base_run_ends_with_the_large_one(drop_last):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    each = 2048 // 32
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=1.0, total_steps=4 * each + 1)
    schedule = BatchSizeSchedule(
        opt, Stages({0: 1536}, "epochs"), base_batch=32, scheduler=cycle, rule="none"
    )
    sampler = schedule.sampler(2048, drop_last=drop_last)
    for _ in range(4):
        for _ in sampler:
            opt.step()
            schedule.step()
    assert cycle.last_epoch == 4 * each
    assert schedule.get_last_lr()[0] == pytest.approx(1 / 25 / 1e4)  # OneCycleLR's own end


def test_epochs_need_the_length_of_the_data():
    schedule, opt = counting(Stages({0: 32}, "examples"), clock="epochs")
    opt.step()
    before = schedule.position
    with pytest.raises(RuntimeError, match="clock='epochs' needs the length of the data"):
        schedule.step()
    assert schedule.position == before


def test_a_base_batch_beyond_the_data_counts_examples():
    schedule, opt = counting(Stages({0: 4}, "steps"))
    schedule.sampler(BASE - 1)
    assert ticks_of(schedule, opt, 5) == [0, 0, 1, 1, 2]


def test_a_short_last_batch_is_counted_whole_as_in_the_base_run():
    schedule, opt = counting(Stages({0: BASE}, "steps"))
    schedule.sampler(20, drop_last=False)
    assert ticks_of(schedule, opt, 7) == list(range(7))
    assert (schedule.epoch, schedule.position.examples) == (2, 48)
