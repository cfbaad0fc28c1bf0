"""LARS of 2017 against its equation, its exceptions and its exclusions."""

import pytest
import torch

from largebatch.optim import LARS

SHAPES = [(3, 4), (4,), (2, 3, 2, 2), ()]


def oracle(weights, gradients, rates, momentum, form, decay, tau, eps, exclude):
    """The equation, a layer at a time."""
    ends = []
    for i, w in enumerate(weights):
        out = exclude == "all" or (exclude == "1d" and w.ndim <= 1)
        lam = 0.0 if out and exclude == "1d" else decay
        u = torch.zeros_like(w)
        for step, eta in zip(gradients, rates, strict=True):
            g = step[i]
            s = 1.0 if out else tau * w.norm() / (g.norm() + lam * w.norm() + eps)
            d = s * (g + lam * w)
            if form == "velocity":
                u = momentum * u + eta * d
                w = w - u
            else:
                u = momentum * u + d
                w = w - eta * u
        ends.append(w)
    return ends


def random_problem(seed, steps=12):
    torch.manual_seed(seed)
    weights = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(steps)]
    return weights, gradients, [1.0 + 0.5 * (step % 5) for step in range(steps)]


def run(optimizer, gradients, rates):
    [group] = optimizer.param_groups
    for step, eta in zip(gradients, rates, strict=True):
        group["lr"] = eta
        for parameter, gradient in zip(group["params"], step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in group["params"]]


def parameters(weights):
    return [torch.nn.Parameter(w.clone()) for w in weights]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("exclude", [None, "1d", "all"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", ["gradient", "velocity"])
@pytest.mark.parametrize("seed", range(2))
def test_follows_its_equation(seed, form, momentum, exclude, foreach):
    # Red: no decay in the denominator or the update, eps forgotten, forms swapped, a norm over
    # several layers, an excluded parameter that is scaled or decayed.
    weights, gradients, rates = random_problem(seed)
    options = {"tau": 0.05, "eps": 0.3, "decay": 0.7, "exclude": exclude}
    expected = oracle(weights, gradients, rates, momentum, form, **options)
    optimizer = LARS(
        parameters(weights),
        momentum=momentum,
        weight_decay=0.7,
        trust_coefficient=0.05,
        eps=0.3,
        exclude=exclude,
        form=form,
        foreach=foreach,
    )
    found = run(optimizer, gradients, rates)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_defaults_are_the_document_s_but_for_one_dimension():
    weights, gradients, rates = random_problem(3)
    expected = oracle(weights, gradients, rates, 0.9, "velocity", 1e-4, 0.001, 0.0, "1d")
    found = run(LARS(parameters(weights), weight_decay=1e-4), gradients, rates)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_layer_moves_by_the_same_share_whatever_the_gradient_s_size():
    # eta*tau of its norm, at lambda = 0 and without momentum.
    for size in (1e-6, 1.0, 1e6):
        weight = torch.nn.Parameter(torch.full((2, 2), 3.0, dtype=torch.float64))
        weight.grad = torch.full_like(weight, size)
        LARS([weight], lr=2.0, momentum=0.0).step()
        assert (weight - 3.0).norm().item() == pytest.approx(2.0 * 0.001 * 6.0)


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 2.0), (3.0, 0.0), (0.0, 0.0), (3.0, 1e-45)])
def test_a_norm_of_zero_means_scale_one(weight, gradient):
    # Red: a zero weight never moves, 0/0 makes a NaN, the inverse of a denormal an infinity.
    parameter = torch.nn.Parameter(torch.full((1, 1), weight))
    parameter.grad = torch.full((1, 1), gradient)
    optimizer = LARS([parameter], lr=0.5, momentum=0.0, weight_decay=0.1)
    optimizer.step()
    assert optimizer.state[parameter]["scale"] == 1
    assert parameter.item() == pytest.approx(weight - 0.5 * (gradient + 0.1 * weight))


def test_norms_of_half_precision_do_not_overflow():
    weight = torch.nn.Parameter(torch.full((10, 10), 100.0, dtype=torch.float16))
    weight.grad = torch.full_like(weight, 6e4)
    LARS([weight], lr=100.0, momentum=0.0).step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 90.0), rtol=1e-3, atol=0)


def test_each_layer_publishes_its_scale_and_excluded_ones_publish_one():
    weights, gradients, rates = random_problem(0, steps=1)
    optimizer = LARS(parameters(weights), weight_decay=0.1)
    run(optimizer, gradients, rates)
    for parameter, w, g in zip(
        optimizer.param_groups[0]["params"], weights, gradients[0], strict=True
    ):
        ratio = 0.001 * w.norm() / (g.norm() + 0.1 * w.norm()) if w.ndim > 1 else torch.ones(())
        torch.testing.assert_close(optimizer.state[parameter]["scale"].double(), ratio.double())
    assert optimizer.layerwise is True


def test_groups_have_their_own_coefficients():
    first, second = (torch.nn.Parameter(torch.ones(1, 1)) for _ in range(2))
    first.grad, second.grad = torch.ones(1, 1), torch.ones(1, 1)
    groups = [{"params": [first]}, {"params": [second], "trust_coefficient": 0.5, "lr": 0.1}]
    LARS(groups, lr=1.0, trust_coefficient=0.25).step()
    assert (first.item(), second.item()) == (0.75, pytest.approx(0.95))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_coefficient": 0.0}, "trust_coefficient must be a finite number above 0, got 0.0"),
        ({"eps": -1e-9}, "eps must be a finite number of at least 0, got -1e-09"),
        ({"exclude": "bias"}, "exclude must be one of '1d', 'all', None, got 'bias'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LARS([torch.nn.Parameter(torch.ones(1))], **options)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("form", ["velocity", "gradient", "buffer"])
@pytest.mark.parametrize(("cap", "clamp"), [(None, None), (0.0012, None), (0.0012, 0.8)])
def test_third_form_bounds_and_nesterov_follow_their_equations(cap, clamp, form, nesterov):
    # Red: a bound left out or on the wrong side of the norm; nesterov of the wrong momentum.
    weights, gradients, rates = random_problem(3)
    options = {"cap": cap, "clamp": clamp, "form": form, "nesterov": nesterov}
    optimizer = LARS(parameters(weights), weight_decay=0.1, exclude=None, **options)
    found = run(optimizer, gradients, rates)
    for k, w in enumerate(weights):
        u = torch.zeros_like(w)
        for step, eta in zip(gradients, rates, strict=True):
            g = step[k] if clamp is None else step[k].clamp(-clamp, clamp)
            s = 0.001 * w.norm() / (g.norm() + 0.1 * w.norm())
            s = s if cap is None else min(s, cap)
            share = {"velocity": eta * s, "gradient": s, "buffer": 1.0}[form]
            u = 0.9 * u + share * (g + 0.1 * w)
            ahead = share * (g + 0.1 * w) + 0.9 * u if nesterov else u
            w = w - {"velocity": 1.0, "gradient": eta, "buffer": eta * s}[form] * ahead
        torch.testing.assert_close(found[k], w, rtol=0, atol=1e-12)


def test_gradients_are_not_clamped_in_place():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    parameter.grad = torch.full((2, 2), 50.0)
    LARS([parameter], clamp=10.0).step()
    assert (parameter.grad == 50.0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cap": 0.0}, "cap must be a finite number above 0, got 0.0"),
        ({"clamp": -1.0}, "clamp must be a finite number above 0, got -1.0"),
        ({"nesterov": None}, "nesterov must be one of True, False, got None"),
        ({"form": "normalized"}, "form must be one of 'gradient', 'velocity', 'buffer'"),
    ],
)
def test_bounds_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LARS([torch.nn.Parameter(torch.ones(2))], **options)
