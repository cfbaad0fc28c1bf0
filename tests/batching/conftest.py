"""What the tests of batch-size schedules start from."""

import pytest
import torch

from largebatch.batching import BatchSizeSchedule


@pytest.fixture
def schedule_of():
    """A schedule of a course for a base batch of 4, and its sampler over 50 examples."""

    def make(course, **sampler):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        schedule = BatchSizeSchedule(optimizer, course, base_batch=4)
        return schedule, schedule.sampler(50, **sampler)

    return make


@pytest.fixture
def epoch_of():
    """An epoch's lists of indices, with a step of the schedule after each."""

    def run(schedule, sampler):
        found = []
        for indices in sampler:
            found.append(indices)
            schedule.step()
        return found

    return run
