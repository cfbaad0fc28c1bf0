"""FollowNoise: its decisions one by one, and on a problem whose noise scale is known."""

import math

import pytest
import torch

from largebatch import theory
from largebatch.batching import BatchSizeSchedule, FollowNoise, Position


def decide(course, current, scale, step=10):
    return course(Position(step=step), current, scale)


def test_a_decision_takes_the_power_below_and_at_most_doubles():
    course = FollowNoise(smallest=10, largest=100, every=5)
    assert course.sizes() == (10, 20, 40, 80)
    assert decide(course, None, None, step=0) == 10
    assert [decide(course, 40, scale) for scale in (10.0, 79.0, 80.0, 10_000.0)] == [40, 40, 80, 80]
    assert decide(course, 80, 1e9) == 80
    assert decide(course, 10, 1e9) == 20
    assert decide(course, 40, torch.tensor(80.0)) == 80


def test_between_decisions_nothing_moves_and_nothing_is_read():
    class Unreadable:
        def __float__(self):
            raise AssertionError

    course = FollowNoise(smallest=10, largest=100, every=5)
    for step in (1, 4, 6, 9):
        assert decide(course, 20, Unreadable(), step) == 20
    with pytest.raises(AssertionError):
        decide(course, 20, Unreadable(), 5)


def test_shrinking_halves_and_only_where_it_is_asked_for():
    kept = FollowNoise(smallest=10, largest=80, every=5)
    shrunk = FollowNoise(smallest=10, largest=80, every=5, shrink=True)
    assert [decide(kept, 80, 25.0), decide(shrunk, 80, 25.0)] == [80, 40]
    assert [decide(shrunk, 40, 25.0), decide(shrunk, 20, 25.0), decide(shrunk, 20, 3.0)] == [
        20,
        20,
        10,
    ]
    assert decide(shrunk, 10, 0.5) == 10


def test_multiple_is_the_batch_in_noise_scales():
    course = FollowNoise(smallest=10, largest=80, every=5, multiple=0.25)
    assert [decide(course, 20, scale) for scale in (159.0, 160.0)] == [20, 40]


@pytest.mark.parametrize("scale", [None, math.nan, math.inf, -3.0, 0.0, torch.tensor(math.nan)])
def test_what_is_no_noise_scale_keeps_the_batch_and_is_said(scale):
    course = FollowNoise(smallest=10, largest=80, every=5, shrink=True)
    with pytest.warns(UserWarning, match=r"to decide at step 10, .* the batch stays at 40"):
        assert decide(course, 40, scale) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smallest": 0}, "smallest must be .* at least 1, got 0"),
        ({"largest": 8}, "largest must be at least smallest=10, got 8"),
        ({"every": 0}, "every must be .* at least 1, got 0"),
        ({"multiple": 0.0}, "multiple must be a finite number above 0, got 0.0"),
    ],
)
def test_what_makes_no_course_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FollowNoise(**({"smallest": 10, "largest": 80, "every": 5} | arguments))


@pytest.mark.parametrize(("multiple", "expected"), [(1.0, 256), (0.25, 64)])
def test_the_batch_ends_at_a_known_noise_scale(multiple, expected):
    # y = x.w* + s*e, x and e normal, at a distance d from w*: the gradient of one example is
    # x (x.d - s*e), so that |G|^2 = |d|^2 and tr(Sigma) = (n + 1)|d|^2 + n s^2.
    n, distance, spread = 10, 1.0, 35.1
    scale = (n + 1) + n * spread / distance
    assert 1.2 * 256 < scale < 512 / 1.2
    source = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.zeros(n))
    target = torch.full((n,), (distance / n) ** 0.5)
    # A rate of 0 keeps the weights where the truth is known.
    optimizer = torch.optim.SGD([weight], lr=0.0)
    course = FollowNoise(16, 2048, every=25, multiple=multiple, shrink=True)
    schedule = BatchSizeSchedule(optimizer, course, base_batch=16)
    squared_norm = trace = 0.0
    for _ in range(1500):
        batch = schedule.batch_size
        x = torch.randn(batch, n, generator=source)
        error = x @ (weight.detach() - target) - spread**0.5 * torch.randn(batch, generator=source)
        workers = (x * error[:, None]).reshape(-1, 4, n).mean(dim=1)
        moments = theory.gradient_moments(
            4,
            float(workers.square().sum(dim=1).mean()),
            batch,
            float(workers.mean(dim=0).square().sum()),
        )
        squared_norm += moments.squared_norm
        trace += moments.trace
        schedule.observe(trace / squared_norm)
        optimizer.step()
        schedule.step()
    assert schedule.batch_size == expected
    assert trace / squared_norm == pytest.approx(scale, rel=0.2)
