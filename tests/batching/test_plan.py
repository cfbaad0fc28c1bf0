"""A step is decided once, however far ahead it is asked for."""

import pytest
import torch

from largebatch.batching import BatchSizeSchedule, Course, FollowNoise, Stages

LENGTH = 50


def test_a_decision_changes_no_batch_that_is_in_flight(schedule_of):
    schedule, sampler = schedule_of(FollowNoise(4, 16, every=1))
    schedule.observe(1.0)
    flight = iter(sampler)
    ahead = [next(flight) for _ in range(4)]
    schedule.observe(1000.0)
    sizes = []
    for indices in ahead:
        sizes.append(schedule.batch_size)
        assert len(indices) == schedule.batch_size
        assert schedule.optimizer.param_groups[0]["lr"] == 0.1 * schedule.batch_size / 4
        schedule.step()
    assert sizes == [4] * 4
    assert len(next(flight)) == schedule.batch_size == 8


def test_a_stage_by_epochs_begins_with_its_epoch_also_where_the_last_batch_was_dropped(
    schedule_of, epoch_of
):
    schedule, sampler = schedule_of(Stages({0: 8, 1: 20, 2: 16}, "epochs"))
    sizes = [[len(indices) for indices in epoch_of(schedule, sampler)] for _ in range(3)]
    assert sizes == [[8] * 6, [20] * 2, [16] * 3]


def test_an_epochs_end_is_one_decision_and_not_two(epoch_of):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule = BatchSizeSchedule(optimizer, FollowNoise(4, 16, every=3), base_batch=4)
    sampler = schedule.sampler(18)
    schedule.observe(1000.0)
    assert [len(indices) for indices in epoch_of(schedule, sampler)] == [4, 4, 4]
    # 8 did not fit into the 6 that were left; asked again, it is still twice 4.
    assert schedule.batch_size == 8


class Untold(Course):
    """A course that cannot say its sizes beforehand."""

    def __call__(self, position, current, noise_scale):
        return 4 + position.step // 2

    def sizes(self):
        return ()


def test_a_size_that_could_not_be_known_is_refused_when_it_is_met(schedule_of):
    schedule, _ = schedule_of(Untold(), num_replicas=4)
    schedule.step()
    with pytest.raises(ValueError, match=r"a batch of 5 cannot be cut .* num_replicas=4"):
        schedule.step()


def test_a_planned_size_that_other_replicas_cannot_cut_is_refused_when_it_is_loaded(schedule_of):
    schedule, _ = schedule_of(Untold())
    schedule.step()
    schedule.step()
    other, _ = schedule_of(Untold(), num_replicas=2)
    with pytest.raises(ValueError, match=r"a batch of 5 cannot be cut .* num_replicas=2"):
        other.load_state_dict(schedule.state_dict())


def test_a_sampler_after_the_first_step_and_another_sampler_are_refused(schedule_of):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule = BatchSizeSchedule(optimizer, Stages({0: 4}, "steps"), base_batch=4)
    with pytest.raises(RuntimeError, match=r"needs schedule.sampler\(length, micro_batch"):
        _ = schedule.micro_batches
    schedule.step()
    with pytest.raises(RuntimeError, match="sampler must be made before the first step, 1 were"):
        schedule.sampler(LENGTH)
    schedule, _ = schedule_of(Stages({0: 4}, "steps"))
    with pytest.raises(ValueError, match=r"sampler is over .*length=50.*got .*length=51"):
        schedule.sampler(51)
