"""Momentum kept as v = u/r: the numbers that a scale rides on, and what idles."""

import pytest
import torch

from largebatch.optim import SNGM, ScaledMomentum

FORMS = ["gradient", "velocity", "buffer"]


class Given(ScaledMomentum):
    """A scale that the test sets, far from 1 and different at each step."""

    layerwise = False
    directionless = True
    scale = 1.0

    def scales(self, buckets):
        return [torch.tensor(self.scale, dtype=torch.float64) for _ in buckets]


def given(form, **options):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "form": form} | options
    return weight, Given([weight], options)


def momentum(optimizer, weight):
    state = optimizer.state[weight]
    return state["momentum_scale"] * state["momentum_buffer"]


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("form", FORMS)
def test_scales_and_rates_that_jump_and_vanish(form, fused):
    # Red: momentum in the wrong unit after a scale or a rate of 0, or after one of 1e-9.
    weight, optimizer = given(form, fused=fused)
    w, u = weight.detach().clone(), torch.zeros(4, dtype=torch.float64)
    scales = [1.0, 1e-9, 0.0, 0.0, 1e6, 3.0, 0.0, 2.0]
    rates = [0.1, 0.3, 0.2, 0.0, 0.1, 0.0, 0.2, 0.1]
    for s, eta in zip(scales, rates, strict=True):
        optimizer.scale, optimizer.param_groups[0]["lr"] = s, eta
        weight.grad = torch.randn(4, dtype=torch.float64)
        h = weight.grad + 0.1 * w
        if form == "gradient":
            u = 0.9 * u + s * h
            w = w - eta * u
        elif form == "velocity":
            u = 0.9 * u + eta * s * h
            w = w - u
        else:
            u = 0.9 * u + h
            w = w - eta * s * u
        optimizer.step()
        scaled = momentum(optimizer, weight)
        torch.testing.assert_close(scaled, u, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(weight.detach(), w, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("form", FORMS)
def test_momentum_that_comes_and_goes(form, fused):
    weight, optimizer = given(form, fused=fused)
    w, u = weight.detach().clone(), torch.zeros(4, dtype=torch.float64)
    for beta, s in [(0.9, 2.0), (0.5, 0.1), (0.9, 7.0), (0.9, 7.0)]:
        optimizer.scale, optimizer.param_groups[0]["momentum"] = s, beta
        weight.grad = torch.randn(4, dtype=torch.float64)
        h = weight.grad + 0.1 * w
        share = {"gradient": s, "velocity": 0.1 * s, "buffer": 1.0}[form]
        u = beta * u + share * h
        w = w - {"gradient": 0.1, "velocity": 1.0, "buffer": 0.1 * s}[form] * u
        optimizer.step()
        torch.testing.assert_close(weight.detach(), w, rtol=1e-12, atol=1e-13)


def test_parameters_that_join_later_start_their_own_momentum():
    # Red: the first parameters' unit taken for those that have no momentum yet.
    first, second = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    optimizer = SNGM([first, second], lr=0.1)
    first.grad = torch.tensor([100.0, 0.0, 0.0], dtype=torch.float64)
    optimizer.step()
    second.grad = torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)
    first.grad = torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64)
    optimizer.step()
    wanted = torch.tensor([0.9 + 0.8, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(momentum(optimizer, first), wanted)
    wanted = torch.tensor([0.0, 0.6, 0.0], dtype=torch.float64)
    torch.testing.assert_close(momentum(optimizer, second), wanted)


def test_without_momentum_nothing_but_the_scale_is_kept():
    weight, optimizer = given("velocity", momentum=0.0)
    weight.grad = torch.ones(4, dtype=torch.float64)
    optimizer.step()
    assert set(optimizer.state[weight]) == {"scale"}


def test_a_step_costs_no_copy_of_the_model():
    # Red: a temporary of the parameter's size in the fused way.
    weight = torch.nn.Parameter(torch.ones(1 << 20))
    weight.grad = torch.ones(1 << 20)
    optimizer = SNGM([weight], lr=0.1, weight_decay=0.1)
    optimizer.step()
    with torch.profiler.profile(profile_memory=True) as profile:
        optimizer.step()
    taken = sum(max(0, e.self_cpu_memory_usage) for e in profile.key_averages())
    assert taken < weight.nbytes / 2


def test_momentum_without_a_unit_is_momentum():
    # As torch.optim.SGD keeps it. Red: momentum silently lost.
    weight, optimizer = given("gradient", weight_decay=0.0)
    theirs = torch.nn.Parameter(weight.detach().clone())
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for parameter, each in ((weight, optimizer), (theirs, sgd)):
        parameter.grad = torch.arange(4.0, dtype=torch.float64)
        each.step()
    del optimizer.state[weight]["momentum_scale"]
    optimizer.scale = 3.0
    weight.grad = torch.ones(4, dtype=torch.float64)
    theirs.grad = torch.full((4,), 3.0, dtype=torch.float64)
    for each in (optimizer, sgd):
        each.step()
    torch.testing.assert_close(weight, theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fused", [None, False])
def test_units_that_jump_do_not_overflow(form, dtype, fused):
    # Red: v = u/r beyond float16's range after s fell from 1 to 1e-4, while u itself is small.
    weight = torch.nn.Parameter(torch.zeros(8, dtype=dtype))
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "form": form, "fused": fused}
    optimizer = Given([weight], options)
    w = u = torch.zeros(8, dtype=torch.float64)
    for s in (1.0, 1e-5, 1e-5, 1e-2):
        optimizer.scale = s
        weight.grad = torch.full_like(weight, 10.0)
        share = {"gradient": s, "velocity": 0.1 * s, "buffer": 1.0}[form]
        u = 0.9 * u + share * 10.0
        w = w - {"gradient": 0.1, "velocity": 1.0, "buffer": 0.1 * s}[form] * u
        optimizer.step()
    torch.testing.assert_close(weight.detach().double(), w, rtol=0.02, atol=1e-3)


def test_a_rate_that_fades_away_never_makes_a_nan():
    # Red: 1e-42 as a unit, which float32 holds but cannot divide by.
    weight, optimizer = given("velocity", weight_decay=0.0)
    weight = torch.nn.Parameter(weight.detach().float())
    optimizer = Given([weight], {**optimizer.defaults})
    rate = 1.0
    for _ in range(1200):
        rate *= 0.9
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.ones(4)
        optimizer.step()
    assert torch.isfinite(weight).all()
