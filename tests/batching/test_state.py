"""A resume in mid-epoch leaves no trace; a state of something else is refused."""

import io
import itertools

import pytest
import torch
from torch.optim import lr_scheduler as torchs
from torch.utils.data import DataLoader, TensorDataset

from largebatch.batching import BatchSizeSchedule, FollowNoise, Ramp, Stages

LENGTH = 50
EPOCHS = 3
COURSES = {
    "stages": Stages({0: 4, 0.5: 8, 1.2: 6, 2: 16}, "epochs"),
    "ramp": Ramp(4, 16, 4, over=90),
    "adaptive": FollowNoise(4, 16, every=3, shrink=True),
}


class Run:
    """A small run; its rates, weights and examples step by step."""

    def __init__(self, course, workers=0, lr=0.05):
        torch.manual_seed(3)
        self.model = torch.nn.Linear(2, 1, dtype=torch.float64)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, betas=(0.8, 0.9))
        decay = torchs.CosineAnnealingLR(self.optimizer, T_max=40)
        self.schedule = BatchSizeSchedule(
            self.optimizer, course, base_batch=4, scheduler=decay, warmup_steps=3
        )
        x = torch.arange(LENGTH * 2, dtype=torch.float64).reshape(LENGTH, 2) / LENGTH
        data = TensorDataset(torch.arange(LENGTH), x)
        sampler = self.schedule.sampler(LENGTH, seed=5)
        self.schedule.observe(3.0)  # a loader with workers asks for decisions before the first step
        self.loader = DataLoader(data, batch_sampler=sampler, num_workers=workers)

    def steps(self):
        for _ in range(self.schedule.epoch, EPOCHS):
            for indices, x in self.loader:
                group = self.optimizer.param_groups[0]
                rate, betas = float(group["lr"]), group["betas"]
                assert len(indices) == self.schedule.batch_size
                self.optimizer.zero_grad()
                (self.model(x) - 1).square().mean().backward()
                self.optimizer.step()
                self.schedule.observe(3.0 + 17 * self.schedule.position.step % 29)
                self.schedule.step()
                weights = self.model.weight.flatten().tolist()
                yield indices.tolist(), rate, betas, weights

    def saved(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load(self, state, order):
        self.model.load_state_dict(state["model"])
        for name in order:
            getattr(self, name).load_state_dict(state[name])


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


ORDERS = [("optimizer", "schedule"), ("schedule", "optimizer")]


def check_resume(course, stops, workers=0, lr=lambda: 0.05):
    whole = list(Run(course, workers, lr()).steps())
    assert len({len(indices) for indices, *_ in whole}) > 2  # the batch does change
    for i, stop in enumerate(stops(len(whole))):
        before = Run(course, workers, lr())
        assert list(itertools.islice(before.steps(), stop)) == whole[:stop]
        after = Run(course, workers, lr())
        after.load(through_a_file(before.saved()), ORDERS[i % 2])
        assert list(after.steps()) == whole[stop:], stop


@pytest.mark.parametrize("name", COURSES)
def test_a_resume_after_any_step_equals_the_uninterrupted_run(name):
    check_resume(COURSES[name], lambda count: range(count + 1))


@pytest.mark.parametrize("name", ["stages", "adaptive"])
def test_a_resume_is_exact_with_batches_in_flight(name):
    check_resume(COURSES[name], lambda count: range(1, count, 5), workers=2)


def test_a_resume_is_exact_where_the_rate_is_a_tensor():
    check_resume(COURSES["ramp"], lambda count: range(0, count, 3), lr=lambda: torch.tensor(0.05))


def test_a_noise_scale_observed_before_the_save_decides_after_the_load(schedule_of):
    states = []
    for scale in (torch.tensor(1000.0), None):
        schedule, _ = schedule_of(FollowNoise(4, 16, every=2))
        if scale is None:
            schedule.load_state_dict(through_a_file(states[0]))
        else:
            schedule.observe(scale)
            schedule.step()
            states.append(schedule.state_dict())
    schedule.step()
    assert schedule.batch_size == 8


def test_the_state_holds_what_weights_only_loads_and_another_number_of_replicas_may_go_on(
    schedule_of, epoch_of
):
    course = Stages({0: 4, 12: 8}, "examples")
    schedule, sampler = schedule_of(course, seed=3)
    whole = epoch_of(schedule, sampler)
    schedule, sampler = schedule_of(course, seed=3)
    for _ in zip(range(4), sampler, strict=False):
        schedule.step()
    state = through_a_file(schedule.state_dict())
    parts = []
    for rank in range(2):
        schedule, sampler = schedule_of(course, seed=3, num_replicas=2, rank=rank)
        schedule.load_state_dict(state)
        parts.append(epoch_of(schedule, sampler))
    assert [a + b for a, b in zip(*parts, strict=True)] == whole[4:]


def test_a_state_may_be_loaded_before_the_sampler_is_made():
    run = Run(COURSES["ramp"])
    whole = list(itertools.islice(run.steps(), 9))
    state = run.saved()
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=0.05, betas=(0.8, 0.9))
    fresh = BatchSizeSchedule(
        optimizer,
        COURSES["ramp"],
        base_batch=4,
        scheduler=torchs.CosineAnnealingLR(optimizer, T_max=40),
        warmup_steps=3,
    )
    fresh.load_state_dict(state["schedule"])
    taken = list(itertools.chain(*(indices for indices, *_ in whole)))
    rest = next(iter(fresh.sampler(LENGTH, seed=5)))
    assert fresh.position.epoch > 0 or not set(rest) & set(taken)
    with pytest.raises(ValueError, match=r"sampler is over .*seed=5.* got .*seed=6"):
        fresh.sampler(LENGTH, seed=6)


DIFFERENT = {
    "course": ({"course": Stages({0: 8}, "steps")}, "the state is of course=.*FollowNoise.*Stages"),
    "base_batch": ({"base_batch": 8}, "the state is of base_batch=4, got 8"),
    "clock": ({"clock": "steps"}, "the state is of clock_kind='examples', got 'steps'"),
    "rule": ({"rule": "sqrt"}, "the state is of rule='linear', got 'sqrt'"),
    "scheduler": ({"scheduler": "StepLR"}, "the state is of inner=None, got 'StepLR'"),
    "length": ({"length": 60}, "the state is of a sampler over .*length=50.* got .*length=60"),
    "optimizer": ({"moves": (), "rule": "linear"}, r"the state moves \[\['lr'\]\].* got \[\[\]\]"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_state_of_something_else_is_refused_by_name(schedule_of, what):
    changed, message = DIFFERENT[what]
    schedule, _ = schedule_of(COURSES["adaptive"])
    arguments = {"course": COURSES["adaptive"], "base_batch": 4} | changed
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    length = arguments.pop("length", LENGTH)
    if "scheduler" in arguments:
        arguments["scheduler"] = torchs.StepLR(optimizer, 5)
    other = BatchSizeSchedule(optimizer, arguments.pop("course"), **arguments)
    other.sampler(length)
    before = other.state_dict()
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(schedule.state_dict())
    assert other.state_dict() == before


def test_a_course_that_is_equal_is_the_same_course(schedule_of):
    schedule, _ = schedule_of(Stages({0: 8, 2: 4}, "epochs"))
    other, _ = schedule_of(Stages({0.0: 8, 2.0: 4}, "epochs"))
    schedule.step()
    other.load_state_dict(through_a_file(schedule.state_dict()))
    assert other.position.step == 1


def lacking(state):
    """The name of each key, and the state without it."""
    for key in state:
        yield key, {name: value for name, value in state.items() if name != key}


def test_a_state_that_lacks_something_is_refused_by_name(schedule_of):
    schedule, _ = schedule_of(COURSES["ramp"])
    schedule.step()
    other, _ = schedule_of(COURSES["ramp"])
    state, before = schedule.state_dict(), other.state_dict()
    for key, less in lacking(state):
        with pytest.raises(ValueError, match=rf"needs .*, but \['{key}'\] are missing: load what"):
            other.load_state_dict(less)
        assert other.state_dict() == before
    parts = {"data": lacking(state["data"]), "ahead": lacking(state["ahead"][0])}
    for name, states in parts.items():
        for _, less in states:
            broken = {**state, name: [less] if name == "ahead" else less}
            with pytest.raises(ValueError, match=rf"state's {name} needs .*: load what"):
                other.load_state_dict(broken)
            assert other.state_dict() == before
