"""Stages and ramps against their definitions; the rest is in contracts/test_batch_schedules.py."""

import pytest

from largebatch.batching import FollowNoise, Position, Ramp, Stages


def at(course, **position):
    return course(Position(**position), None, None)


def test_a_stage_begins_at_its_moment_and_not_before():
    course = Stages({0: 8, 100: 16, 300: 4}, key="examples")
    assert [at(course, examples=n) for n in (0, 99, 100, 299, 300, 10**9)] == [8, 8, 16, 16, 4, 4]


def test_the_same_moment_has_the_same_size_in_every_key():
    position = Position(step=7, examples=150, epoch=1, place=50, length=100)
    for key, moment in {"steps": 7, "examples": 150, "epochs": 1.5, "tokens": 4500}.items():
        course = Stages({0: 8, moment: 16}, key, tokens_per_example=30)
        assert course(position, None, None) == 16
        late = Stages({0: 8, moment + 1e-6: 16}, key, tokens_per_example=30)
        assert late(position, None, None) == 8


def test_stages_are_sorted_and_equal_however_they_were_given():
    assert Stages({5: 16, 0: 8}, "steps") == Stages(((0, 8), (5, 16)), "steps")
    assert Stages({0: 8, 5: 16, 9: 8}, "steps").sizes() == (8, 16)


def test_doubling_doubles_until_its_end():
    course = Stages.doubling(8, 64, every=10, key="steps")
    assert [at(course, step=n) for n in (0, 9, 10, 20, 30, 1000)] == [8, 8, 16, 32, 64, 64]
    assert Stages.doubling(8, 8, every=10, key="steps").sizes() == (8,)


def megatron(consumed, start, end, increment, over):
    """What its calculator of micro-batches does with --rampup-batch-size."""
    if consumed > over:
        return end
    return start + int(consumed / (over / ((end - start) // increment))) * increment


@pytest.mark.parametrize("over", [1000, 960, 7])
def test_a_ramp_is_megatrons(over):
    course = Ramp(start=16, end=96, increment=16, over=over)
    for n in range(0, 1100, 3):
        assert at(course, examples=n) == megatron(n, 16, 96, 16, over), n


def test_a_ramp_without_height_is_constant():
    course = Ramp(start=16, end=16, increment=8, over=10)
    assert (at(course, examples=0), at(course, examples=99), course.sizes()) == (16, 16, (16,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stages({1: 8}, "steps"), "stages must begin at 0, got the first at 1"),
        (lambda: Stages({}, "steps"), "stages must begin at 0, got none"),
        (lambda: Stages({0: 8.0}, "steps"), "size must be a whole number of at least 1, got 8.0"),
        (lambda: Stages({0: 8, "5": 16}, "steps"), "moment must be a number, got '5'"),
        (lambda: Stages({0: 8}, "epoch"), "key must be one of 'examples', .* got 'epoch'"),
        (lambda: Stages({0: 8}, "tokens"), "key='tokens' needs tokens_per_example"),
        (lambda: Stages({0: 8}, "tokens", 0), "tokens_per_example must be .* got 0"),
        (lambda: Stages.doubling(8, 24, 5, "steps"), "doubling from 8 never comes to 24"),
        (lambda: Stages.doubling(8, 16, 0, "steps"), "every must be above 0, got 0"),
        (lambda: Ramp(16, 40, 16, 100), "by increment=16 never comes to end=40"),
        (lambda: Ramp(16, 8, 8, 100), "never comes to end=8"),
        (lambda: Ramp(16, 32, 16, 0), "over must be a finite number above 0, got 0"),
        (lambda: Ramp(0, 32, 16, 10), "start must be a whole number of at least 1, got 0"),
    ],
)
def test_what_makes_no_course_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_epochs_without_the_length_of_the_data_say_what_is_missing():
    course = Stages({0: 8, 1: 16}, "epochs")
    assert at(course) == 8
    with pytest.raises(RuntimeError, match=r"call schedule.sampler\(len\(data\)\)"):
        at(course, step=1, examples=8)


def test_courses_that_are_equal_have_one_text():
    pairs = [
        (Stages({0: 1, 2: 4}, "epochs"), Stages({0.0: 1, 2.0: 4}, "epochs")),
        (Ramp(8, 16, 8, over=90), Ramp(8, 16, 8, over=90.0)),
        (FollowNoise(8, 16, 5, multiple=1), FollowNoise(8, 16, 5)),
    ]
    for one, other in pairs:
        assert one == other
        assert repr(one) == repr(other)


@pytest.mark.parametrize(
    ("every", "length", "places"), [(0.1, 100, (10, 20, 30)), (2 / 3, 300, (200, 400, 600))]
)
def test_doubling_by_a_fraction_begins_each_stage_with_its_step(every, length, places):
    course = Stages.doubling(8, 64, every=every, key="epochs")
    for place, before, after in zip(places, (8, 16, 32), (16, 32, 64), strict=True):
        sizes = []
        for n in (place - 1, place):
            epoch, rest = divmod(n, length)
            sizes.append(at(course, epoch=epoch, place=rest, length=length))
        assert sizes == [before, after], place


def test_a_fraction_of_an_epoch_is_met_in_every_epoch():
    for epoch in range(60):
        for place in range(1, 100):
            course = Stages({0: 8, float(f"{epoch}.{place:02d}"): 16}, "epochs")
            assert at(course, epoch=epoch, place=place, length=100) == 16
            assert at(course, epoch=epoch, place=place - 1, length=100) == 8


def test_whole_moments_are_never_rounded():
    far = 123_456_789_012_345
    course = Stages({0: 8, far: 16}, "examples")
    assert [at(course, examples=n) for n in (far - 1, far)] == [8, 16]
    assert Stages.doubling(8, 16, every=far, key="examples").stages == ((0, 8), (far, 16))
