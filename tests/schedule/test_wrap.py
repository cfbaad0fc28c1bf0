"""Warm-up and final collapse, and the document's two courses made of them."""

import pytest

from largebatch.schedule import Constant, FinalCollapse, Linear, MultiStep, Polynomial, WarmUp


def test_the_warm_up_starts_at_its_start_and_ends_where_the_wrapped_one_takes_over():
    course = WarmUp(4, start=0.2)
    assert [course(t) for t in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert WarmUp(0, start=0.2)(0) == 1.0
    assert WarmUp(3)(0) == 0.0


def test_the_wrapped_schedule_sees_the_global_step():
    # Red: a wrapped schedule that starts counting when the warm-up ends.
    seen = []

    class Spy(Linear):
        def __call__(self, step):
            seen.append(step)
            return super().__call__(step)

    course = WarmUp(3, then=FinalCollapse(6, then=Spy(10)))
    assert [course(t) for t in (2, 3, 6)] == pytest.approx([2 / 3, 0.7, 0.4 / 5])
    assert seen == [3, 6]


def test_final_collapse_divides_from_its_step_on():
    course = FinalCollapse(5, divisor=4.0)
    assert [course(t) for t in (4, 5, 6)] == [1.0, 0.25, 0.25]
    assert FinalCollapse(0)(0) == 0.2


@pytest.mark.parametrize("peak", [3.2, 6.4])
def test_gnc_s_cifar_course(peak):
    """App. A.4 and Table 4: 0.025 to the peak in 10 epochs, then ÷10 at epochs 80 and 120."""
    epoch = 12
    course = WarmUp(10 * epoch, 0.025 / peak, MultiStep((80 * epoch, 120 * epoch)))
    rate = {e: peak * course(int(e * epoch)) for e in (0, 5, 10, 79.9, 80, 120, 159)}
    assert rate[0] == pytest.approx(0.025)
    assert rate[5] == pytest.approx((0.025 + peak) / 2)
    assert rate[10] == rate[79.9] == pytest.approx(peak)
    assert (rate[80], rate[120]) == (pytest.approx(peak / 10), pytest.approx(peak / 100))


def test_gnc_s_imagenet_course():
    """App. A.5 and Table 4, 32,768: 1.0 to 23 in 5 epochs, (1 - t/4120)^2, ÷5 from epoch 80."""
    epoch = 1_281_167 // 32_768
    course = WarmUp(5 * epoch, 1 / 23, FinalCollapse(80 * epoch, Polynomial(4120)))

    def rate(step):
        return 23 * course(step)

    assert rate(0) == pytest.approx(1.0)
    assert rate(5 * epoch - 1) < 23
    assert rate(5 * epoch - 1) == pytest.approx(23, rel=0.01)
    assert rate(5 * epoch) == pytest.approx(23 * (1 - 5 * epoch / 4120) ** 2)
    assert rate(80 * epoch - 1) == pytest.approx(23 * (1 - (80 * epoch - 1) / 4120) ** 2)
    assert rate(80 * epoch) == pytest.approx(23 * (1 - 80 * epoch / 4120) ** 2 / 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarmUp(-1), "steps must be a whole number of at least 0, got -1"),
        (lambda: WarmUp(3, start=-0.1), "start must be a finite number of at least 0, got -0.1"),
        (lambda: WarmUp(3, then=0.1), "then must be a schedule such as .*Linear.*, got 0.1"),
        (lambda: FinalCollapse(2.5), "step must be a whole number of at least 0, got 2.5"),
        (lambda: FinalCollapse(3, Constant(), 0), "divisor must be a finite number above 0, got 0"),
        (lambda: FinalCollapse(3, then=None), "then must be a schedule such as .*, got None"),
    ],
)
def test_values_that_make_no_schedule_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
