"""How often the scheduler inside has stepped."""

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


def test_a_short_last_batch_is_counted_whole_as_in_the_base_run():
    schedule, opt = counting(Stages({0: BASE}, "steps"))
    schedule.sampler(20, drop_last=False)
    assert ticks_of(schedule, opt, 7) == list(range(7))
    assert (schedule.epoch, schedule.position.examples) == (2, 48)
