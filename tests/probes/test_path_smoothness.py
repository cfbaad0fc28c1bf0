"""Smoothness along a path where it is known, and the line over it."""

import math

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.probes import PathSmoothness, relaxed_smoothness


class Point(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))


def path(model, loss, rates):
    """(L_t, gradient norm) of each step of gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = PathSmoothness(model, lambda x: loss(model.w), (torch.zeros(1),))
    probe.attach(optimizer)
    found = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss(model.w).backward()
        optimizer.step()
        found.append(probe.result())
    return [e.smoothness for e in found], [e.gradient_norm for e in found]


def test_of_a_quadratic_it_is_the_eigenvalue_and_lambda_is_zero():
    # Red: gradients at one and the same point, a distance over the rate.
    eigenvalues = torch.tensor([1.0, 4.0], dtype=torch.float64)
    along, norms = path(Point([0.0, 3.0]), lambda w: (eigenvalues * w * w).sum() / 2, [0.1] * 6)
    assert along == pytest.approx([4.0] * 6, rel=1e-9)
    assert norms == pytest.approx([12 * 0.6**t for t in range(6)])
    fit = relaxed_smoothness(along, norms)
    assert (fit.smoothness, fit.growth) == pytest.approx((4.0, 0.0), abs=1e-6)


def test_of_the_exponential_function_lambda_is_one():
    rates = [0.002] * 50 + [0.05] * 50
    along, norms = path(Point(2.0), torch.exp, rates)
    expected = [-math.expm1(-r * n) / r for n, r in zip(norms, rates, strict=True)]
    assert along == pytest.approx(expected, rel=1e-6)
    fit = relaxed_smoothness(along, norms)
    assert fit.growth == pytest.approx(1.0, rel=0.02)
    assert fit.smoothness == pytest.approx(0.0, abs=0.02)


def test_of_a_sum_of_both_both_are_found():
    # F = exp(w) + 3 w^2/2 has F'' = F' - 3w + 3; along w near 0, F'' ~ 3 + exp(w).
    along, norms = path(Point([0.0, 3.0]), lambda w: w[0].exp() + 1.5 * w[0] ** 2, [1e-4] * 30)
    assert along[0] == pytest.approx(4.0, rel=1e-3)
    assert norms[0] == pytest.approx(1.0)


def test_by_hand_and_with_several_optimizers():
    model = nn.Linear(2, 2).double()
    x = torch.eye(2, dtype=torch.float64)
    loss = lambda x: 2.5 * model(x)[:, 0].square().sum()  # noqa: E731
    parts = [torch.optim.SGD([p], lr=0.01) for p in model.parameters()]
    attached, by_hand = (PathSmoothness(model, loss, (x,)) for _ in range(2))
    attached.attach(*parts)
    by_hand.before()
    loss(x).backward()
    for each in parts:
        each.step()
    by_hand.after()
    assert by_hand.result() == attached.result()
    assert attached.result().distance > 0


@pytest.mark.parametrize("every", [1, 3])
def test_every_so_many_steps(every):
    model = nn.Linear(2, 1)
    calls = []
    x = torch.ones(1, 2)

    def loss(x):
        calls.append(1)
        return model(x).square().mean()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    PathSmoothness(model, loss, (x,), every=every).attach(optimizer)
    model(x).sum().backward()
    for _ in range(6):
        optimizer.step()
    assert len(calls) == 2 * 6 // every


def test_a_path_that_stands_still_is_not_a_number():
    model = nn.Linear(2, 1)
    probe = PathSmoothness(model, lambda x: model(x).mean(), (torch.ones(1, 2),))
    probe.before()
    probe.after()
    assert math.isnan(probe.result().smoothness)
    with pytest.raises(RuntimeError, match=r"after\(\) needs what before\(\) takes"):
        probe.after()


def test_nothing_measured_is_an_error():
    probe = PathSmoothness(nn.Linear(1, 1), lambda: None, ())
    with pytest.raises(RuntimeError, match="PathSmoothness has measured no step yet"):
        probe.result()


def brute(points):
    """The least line over all lines through two points, level and slope not negative."""
    lines = [(max(y for _, y in points), 0.0)]
    lines += [(0.0, max(y / x for x, y in points if x > 0))]
    for i, (x, y) in enumerate(points):
        for u, v in points[:i]:
            if u != x:
                slope = (v - y) / (u - x)
                lines.append((y - slope * x, slope))
    allowed = [
        (a, b)
        for a, b in lines
        if min(a, b) >= -1e-12 and all(a + b * x >= y - 1e-9 for x, y in points)
    ]
    return min(sum(a + b * x - y for x, y in points) for a, b in allowed)


@pytest.mark.parametrize("seed", range(30))
def test_the_line_is_the_least_of_those_above(seed):
    source = torch.Generator().manual_seed(seed)
    x = torch.rand(12, generator=source, dtype=torch.float64)
    slope = float(torch.randn((), generator=source)) * 2
    y = (1 + slope * x + torch.rand(12, generator=source, dtype=torch.float64)).clamp(min=0.01)
    fit = relaxed_smoothness(y.tolist(), x.tolist())
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    assert all(fit.smoothness + fit.growth * a >= b - 1e-9 for a, b in points)
    assert min(fit.smoothness, fit.growth) >= 0
    assert fit.mean_excess * 12 == pytest.approx(brute(points), abs=1e-9)


def test_neither_level_nor_slope_is_negative():
    # Red: the edge over the mean as it is, whose level is -1.85 and, of the other, slope -1.
    steep = relaxed_smoothness([0.1, 2.0, 4.0], [1.0, 2.0, 3.0])
    assert (steep.smoothness, steep.growth) == pytest.approx((0.0, 4 / 3))
    falling = relaxed_smoothness([3.0, 2.0, 1.0], [1.0, 2.0, 3.0])
    assert (falling.smoothness, falling.growth) == (3.0, 0.0)


def test_what_cannot_be_fitted_is_said():
    with pytest.raises(ValueError, match="a gradient norm is needed for each smoothness, got 1"):
        relaxed_smoothness([1.0], [])
    with pytest.raises(ValueError, match="a line needs two finite points, got 1"):
        relaxed_smoothness([1.0, math.nan], [1.0, 2.0])
    assert relaxed_smoothness([1.0, 3.0], [2.0, 2.0]).smoothness == 3.0


def test_it_listens_to_our_rules_too():
    model = nn.Linear(3, 1)
    optimizer = lb.SNGM(model.parameters(), lr=0.1)
    x = torch.randn(4, 3)
    probe = PathSmoothness(model, lambda x: model(x).square().mean(), (x,))
    probe.attach(optimizer)
    model(x).square().mean().backward()
    before = [p.grad for p in model.parameters()]
    optimizer.step()
    assert all(a is p.grad for a, p in zip(before, model.parameters(), strict=True))
    assert probe.result().distance == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("by_hand", [False, True])
def test_dropout_is_the_same_before_and_after(by_hand):
    # Red: another mask after the step, whose difference does not fall with the step.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 1))
    x = torch.randn(16, 6)
    found = []
    for lr in (1e-2, 1e-5):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        probe = PathSmoothness(model, lambda x: model(x).pow(2).mean(), (x,))
        if by_hand:
            probe.before()
        else:
            probe.attach(optimizer)
        model(x).pow(2).mean().backward()
        optimizer.step()
        if by_hand:
            probe.after()
        found.append(probe.result().smoothness)
        optimizer.zero_grad()
    assert found[1] < 20 * found[0]
