"""How a batch is cut: sizes that cannot be are refused, and the workers' count follows."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import largebatch as lb
from largebatch.batching import BatchSizeSchedule, Course, Stages

LENGTH = 50


@pytest.mark.parametrize(
    ("course", "options", "message"),
    [
        (Stages({0: 4, 9: 6}, "epochs"), {"num_replicas": 4}, "batch of 6 .* num_replicas=4"),
        (Stages({0: 4, 9: 6}, "epochs"), {"micro_batch": 4}, "batch of 6 .* micro_batch=4"),
        (Stages({0: 4}, "steps"), {"num_replicas": 2, "micro_batch": 4}, "divisible by 8"),
        (Stages({0: 4, 9: 64}, "epochs"), {}, "a batch of 64 is more than the data's 50 examples"),
        (Stages({0: 4}, "steps"), {"rank": 1}, "rank must be below num_replicas=1, got 1"),
        (Stages({0: 4}, "steps"), {"micro_batch": 0}, "micro_batch must be .* at least 1, got 0"),
        (
            Stages({0: 4}, "steps"),
            {"drop_last": False, "num_replicas": 2},
            "drop_last=False leaves a short batch",
        ),
    ],
)
def test_sizes_that_cannot_be_cut_are_refused_before_training(
    schedule_of, course, options, message
):
    with pytest.raises(ValueError, match=message):
        schedule_of(course, **options)


def test_the_count_of_workers_follows_the_batch_and_their_size_stays():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, perturb=lb.GNC(alpha=0.5), count=2)
    schedule = BatchSizeSchedule(
        optimizer, Stages({0: 8, 4: 16}, "steps"), base_batch=8, workers=workers, worker_size=4
    )
    with pytest.raises(RuntimeError, match=r"workers= needs schedule.sampler"):
        schedule.step()
    loader = DataLoader(
        TensorDataset(torch.randn(64, 3, dtype=torch.float64)),
        batch_sampler=schedule.sampler(64),
    )
    counts, sizes, ratios = [], [], []
    for (x,) in loader:
        shapes = []

        def loss(x, shapes=shapes):
            shapes.append(len(x))
            return (model(x) - 1).square().mean()

        workers.backward(loss, x)
        counts.append(workers.count)
        sizes.append(set(shapes))
        ratios.append((float(workers.offset_to_weight_norm), optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    assert counts == [2, 2, 2, 2, 4, 4]
    assert sizes == [{4}] * 6
    assert [lr for _, lr in ratios] == [0.1] * 4 + [0.2] * 2
    assert ratios[3][0] > 0
    assert ratios[4][0] == 0  # the new workers have seen nothing yet
    assert ratios[5][0] > 0


def offsets(rule):
    """Offset to weight norm at each step, while the batch doubles at step 4."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, perturb=lb.GNC(alpha=0.5), count=2)
    course = Stages({0: 8, 4: 16}, "steps")
    schedule = BatchSizeSchedule(optimizer, course, base_batch=8, rule=rule)
    x = torch.randn(64, 3, dtype=torch.float64)
    found = []
    for indices in schedule.sampler(64):
        workers.backward(lambda x: (model(x) - 1).square().mean(), x[indices])
        found.append(float(workers.offset_to_weight_norm))
        optimizer.step()
        schedule.step()
    return found


def test_an_offset_in_units_of_the_rate_follows_the_true_one():
    linear, none = offsets("linear"), offsets("none")
    assert linear[:4] == none[:4]
    assert linear[4] == pytest.approx(2 * none[4], rel=1e-9)
    assert none[4] > 0


def test_workers_share_what_a_replica_gets():
    class Counted:
        count = 0

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    counted = Counted()
    course = Stages({0: 16, 1: 32}, "steps")
    schedule = BatchSizeSchedule(optimizer, course, base_batch=8, workers=counted, worker_size=2)
    with pytest.raises(ValueError, match=r"of worker_size=2 each: .* divisible by 32"):
        schedule.sampler(LENGTH, num_replicas=16)
    schedule.sampler(LENGTH, num_replicas=4)
    assert counted.count == 2
    schedule.step()
    assert counted.count == 4
    another = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    fresh = BatchSizeSchedule(another, course, base_batch=8, workers=counted, worker_size=2)
    fresh.sampler(LENGTH, num_replicas=8)
    assert counted.count == 1
    fresh.load_state_dict(schedule.state_dict())
    assert counted.count == 2


def perturbed(course, perturb, count):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, perturb=perturb, count=count)
    return BatchSizeSchedule(optimizer, course, base_batch=32, workers=workers, worker_size=8)


def test_a_course_that_leaves_too_few_workers_is_refused_before_training():
    course = Stages({0: 32, 64: 8}, "examples")
    schedule = perturbed(course, lb.GNC(alpha=0.1), 4)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=r"a batch of 8 .* 1 of worker_size=8 .* at least 2 work"):
        schedule.sampler(LENGTH)
    assert schedule.state_dict() == before
    schedule = perturbed(Stages({0: 32, 64: 16}, "examples"), lb.GNC(alpha=0.1), 4)
    with pytest.raises(ValueError, match=r"a batch of 16 .* of num_replicas=2"):
        schedule.sampler(LENGTH, num_replicas=2)
    schedule.sampler(LENGTH)
    perturbed(course, None, 4).sampler(LENGTH)  # which one worker is enough for


class Untold(Course):
    """A course that cannot say its sizes beforehand."""

    def __call__(self, position, current, noise_scale):
        return 32 if position.step < 2 else 8

    def sizes(self):
        return ()


def test_too_few_workers_that_could_not_be_known_leave_step_without_effect():
    schedule = perturbed(Untold(), lb.GNC(alpha=0.1), 4)
    schedule.sampler(LENGTH)
    schedule.step()
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=r"a batch of 8 .* at least 2 workers"):
        schedule.step()
    assert schedule.state_dict() == before


def test_a_refused_sampler_leaves_the_schedule_as_it_was():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule = BatchSizeSchedule(optimizer, Stages({0: 4, 1: 6}, "steps"), base_batch=4)
    with pytest.raises(ValueError, match=r"batch of 6 .* num_replicas=4"):
        schedule.sampler(LENGTH, num_replicas=4)
    schedule.step()
    assert schedule.batch_size == 6
