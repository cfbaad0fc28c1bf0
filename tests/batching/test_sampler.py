"""Which examples a batch holds, and where an iterator begins."""

import itertools

import pytest
from torch.utils.data import DataLoader

from largebatch.batching import FollowNoise, Ramp, Stages

LENGTH = 50
EPOCHS = 3
COURSES = {
    "stages": Stages({0: 4, 0.5: 8, 1.2: 6, 2: 16}, "epochs"),
    "ramp": Ramp(4, 16, 4, over=90),
    "adaptive": FollowNoise(4, 16, every=3, shrink=True),
}


@pytest.mark.parametrize("name", ["stages", "ramp"])
def test_an_epoch_has_each_example_once_and_batches_of_the_courses_sizes(schedule_of, name):
    schedule, sampler = schedule_of(COURSES[name])
    for epoch in range(EPOCHS):
        assert schedule.epoch == epoch
        sizes, found = [], []
        for indices in sampler:
            sizes.append(schedule.batch_size)
            found.append(indices)
            schedule.step()
        assert [len(each) for each in found] == sizes
        flat = list(itertools.chain(*found))
        assert len(set(flat)) == len(flat)
        assert LENGTH - len(flat) < max(COURSES[name].sizes())
        assert set(flat) < set(range(LENGTH))
    assert schedule.epoch == EPOCHS


def test_the_last_batch_may_be_short_where_it_is_not_dropped(schedule_of, epoch_of):
    schedule, sampler = schedule_of(Stages({0: 16}, "steps"), drop_last=False)
    for _ in range(2):
        found = epoch_of(schedule, sampler)
        assert [len(each) for each in found] == [16, 16, 16, 2]
        assert sorted(itertools.chain(*found)) == list(range(LENGTH))
    assert schedule.position.examples == 2 * LENGTH
    assert schedule.optimizer.param_groups[0]["lr"] == 0.1 * 4  # the short batch's too


def test_an_epochs_order_is_named_by_seed_and_epoch_and_not_by_the_course(schedule_of, epoch_of):
    one = [epoch_of(*schedule_of(Stages({0: 5}, "steps"), seed=s)) for s in (0, 0, 1)]
    assert one[0] == one[1] != one[2]
    schedule, sampler = schedule_of(Stages({0: 10}, "steps"), seed=0)
    first, second = epoch_of(schedule, sampler), epoch_of(schedule, sampler)
    assert list(itertools.chain(*first)) == list(itertools.chain(*one[0]))
    assert list(itertools.chain(*first)) != list(itertools.chain(*second))
    schedule, sampler = schedule_of(Stages({0: 25}, "steps"), shuffle=False)
    assert list(itertools.chain(*epoch_of(schedule, sampler))) == list(range(LENGTH))


@pytest.mark.parametrize("replicas", [2, 4])
def test_the_replicas_parts_together_are_one_replicas_batch(schedule_of, epoch_of, replicas):
    course = Stages({0: 4, 20: 8, 60: 12}, "examples")
    schedule, sampler = schedule_of(course)
    whole = [epoch_of(schedule, sampler) for _ in range(2)]
    ranks = []
    for rank in range(replicas):
        schedule, sampler = schedule_of(course, num_replicas=replicas, rank=rank)
        ranks.append([epoch_of(schedule, sampler) for _ in range(2)])
    for epoch in range(2):
        for batch, parts in zip(
            whole[epoch], zip(*(r[epoch] for r in ranks), strict=True), strict=True
        ):
            assert len({len(part) for part in parts}) == 1
            assert list(itertools.chain(*parts)) == batch


def test_micro_batches_cut_the_batch_and_say_how_many_make_a_step(schedule_of, epoch_of):
    course = Stages({0: 4, 20: 8, 60: 16}, "examples")
    schedule, sampler = schedule_of(course)
    whole = [epoch_of(schedule, sampler) for _ in range(2)]
    schedule, sampler = schedule_of(course, num_replicas=2, rank=1, micro_batch=2)
    for epoch in range(2):
        batches, counts, held = [], [], []
        total = len(sampler)
        for indices in sampler:
            assert len(indices) == 2
            held.append(indices)
            if len(held) == schedule.micro_batches:
                batches.append(list(itertools.chain(*held)))
                counts.append(len(held))
                held = []
                schedule.step()
        assert held == []
        assert batches == [batch[len(batch) // 2 :] for batch in whole[epoch]]
        assert sum(counts) == total
    assert set(counts) == {2, 4}


@pytest.mark.parametrize("name", COURSES)
def test_the_length_is_that_of_the_epoch_whenever_it_is_asked(schedule_of, name):
    schedule, sampler = schedule_of(COURSES[name])
    schedule.observe(10.0)  # so that the adaptive course goes as things stand
    for _ in range(EPOCHS):
        said = {len(sampler)}
        count = 0
        for _ in sampler:
            count += 1
            said.add(len(sampler))
            if count < len(sampler):
                schedule.step()
        assert said == {count}
        schedule.step()


def test_an_iterator_begins_where_the_steps_have_come_to(schedule_of, epoch_of):
    schedule, sampler = schedule_of(Stages({0: 10}, "steps"), shuffle=False)
    for indices in sampler:
        schedule.step()
        if indices[0] == 10:
            break
    assert [indices[0] for indices in epoch_of(schedule, sampler)] == [20, 30, 40]
    sampler.set_epoch(7)
    assert len(epoch_of(schedule, sampler)) == 5


def test_a_loop_that_steps_more_often_than_it_takes_batches_is_told(schedule_of):
    schedule, sampler = schedule_of(Stages({0: 4}, "steps"))
    batches = iter(sampler)
    next(batches)
    schedule.step()
    schedule.step()
    with pytest.raises(RuntimeError, match=r"batch of step 1 .* had come to 2: call it once"):
        next(batches)


def test_a_loop_that_leaves_out_steps_is_told_when_batches_come_again(schedule_of, epoch_of):
    schedule, sampler = schedule_of(Stages({0: 10}, "steps"))
    for _ in range(2):
        epoch_of(schedule, sampler)
    for i, _ in enumerate(sampler):
        if i != 2:  # as where the scaler skipped a step, and the loop the scheduler's
            schedule.step()
    with pytest.warns(UserWarning, match="epoch 2 was handed out .* its batch 4 only.* else call"):
        assert len(epoch_of(schedule, sampler)) == 1
    assert len(epoch_of(schedule, sampler)) == 5


def test_a_loop_that_leaves_an_epoch_early_is_not_told_that_it_left_out_steps(schedule_of):
    schedule, sampler = schedule_of(Stages({0: 10}, "steps"))
    loader = DataLoader(range(LENGTH), batch_sampler=sampler, num_workers=2, prefetch_factor=4)
    for i, _ in enumerate(loader):
        schedule.step()
        if i == 1:
            break
    with pytest.warns(UserWarning, match="That is as it should be where the loop left the epoch"):
        assert len(list(loader)) == 3
