"""Each decay against its formula at hand-worked steps, and the published courses."""

import math

import pytest
import torch

from largebatch.schedule import Constant, Cosine, Linear, MultiStep, Polynomial


def rates_of(scheduler, optimizer, steps):
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def sgd(lr=1.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)


def test_constant():
    assert [Constant()(0), Constant(0.5)(10**9)] == [1.0, 0.5]


def test_linear():
    assert [Linear(10)(t) for t in (0, 5, 10, 11)] == [1.0, 0.5, 0.0, 0.0]
    assert [Linear(10, end=0.2)(t) for t in (0, 5, 10, 99)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_polynomial_is_torch_s(power):
    optimizer = sgd()
    theirs = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=12, power=power)
    ours = Polynomial(12, power)
    assert [ours(t) for t in range(15)] == pytest.approx(rates_of(theirs, optimizer, 15))
    assert Polynomial(10, 2.0, end=0.1)(5) == pytest.approx(0.1 + 0.9 * 0.25)


def test_multi_step_is_torch_s():
    optimizer = sgd()
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7], gamma=0.1)
    ours = MultiStep((3, 7))
    assert [ours(t) for t in range(10)] == pytest.approx(rates_of(theirs, optimizer, 10))
    assert MultiStep([3, 7]) == MultiStep((3, 7))


def test_cosine_is_torch_s():
    optimizer = sgd()
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    ours = Cosine(9)
    assert [ours(t) for t in range(10)] == pytest.approx(rates_of(theirs, optimizer, 10), abs=1e-12)
    assert ours(18) == 0.0  # theirs climbs again


def test_sngm_s_cosine_stands_still_within_an_epoch():
    """eta_m = eta_0 * 0.5 * (1 + cos(m*pi/160)) in the m-th epoch, m = 0..159."""
    steps = 7
    course = Cosine(160 * steps, per=steps)
    for epoch in (0, 1, 80, 159):
        expected = 0.5 * (1 + math.cos(epoch * math.pi / 160))
        within = {course(epoch * steps + step) for step in range(steps)}
        assert list(within) == [pytest.approx(expected)]
    assert course(160 * steps) == 0.0
    assert Cosine(10, end=0.5)(5) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(0), "total must be a whole number of at least 1, got 0"),
        (lambda: Linear(1.5), "total must be a whole number of at least 1, got 1.5"),
        (lambda: Linear(3, end=-1.0), "end must be a finite number of at least 0, got -1.0"),
        (lambda: Polynomial(3, power=0.0), "power must be a finite number above 0, got 0.0"),
        (lambda: Cosine(3, per=0), "per must be a whole number of at least 1, got 0"),
        (lambda: Constant(float("nan")), "value must be a finite number of at least 0, got nan"),
        (lambda: MultiStep(30), "milestones must be a tuple of steps, got 30"),
        (lambda: MultiStep((7, 3)), r"milestones must increase, got \(7, 3\)"),
        (lambda: MultiStep((3, 3)), r"milestones must increase, got \(3, 3\)"),
        (lambda: MultiStep((0.5,)), "each milestone must be a whole number of at least 1, got 0.5"),
    ],
)
def test_values_that_make_no_schedule_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
