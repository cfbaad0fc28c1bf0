"""MCLR against its equation; what a quotient of medians is not; and its known failures."""

import pytest
import torch

from largebatch.optim.mclr import MCLR

SHAPES = [(3, 4), (5,), (2, 3, 2, 2), ()]


def lower_median(values):
    return values.flatten().sort().values[(values.numel() - 1) // 2]


def radius(w, g, lam, magnitudes):
    w, g = (w.abs(), g.abs()) if magnitudes else (w, g)
    median = lower_median(w)
    return (median / (lower_median(g) + lam * median)).abs().clamp(0.05, 20.0)


def oracle(weights, gradients, rates, momentum, form, decay, exclude, magnitudes):
    """The equation, a layer at a time."""
    ends = []
    for i, w in enumerate(weights):
        out = exclude == "all" or (exclude == "1d" and w.ndim <= 1)
        lam = 0.0 if out and exclude == "1d" else decay
        u = torch.zeros_like(w)
        for step, eta in zip(gradients, rates, strict=True):
            s = 1.0 if out else radius(w, step[i], lam, magnitudes)
            h = step[i] + lam * w
            if form == "velocity":
                u = momentum * u + eta * s * h
                w = w - u
            elif form == "gradient":
                u = momentum * u + s * h
                w = w - eta * u
            else:
                u = momentum * u + h
                w = w - eta * s * u
        ends.append(w)
    return ends


def problem(seed, steps=12):
    torch.manual_seed(seed)
    weights = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(steps)]
    return weights, gradients, [0.01 + 0.005 * (step % 5) for step in range(steps)]


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


@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("exclude", [None, "1d", "all"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", ["gradient", "velocity", "buffer"])
def test_follows_its_equation(form, momentum, exclude, magnitudes):
    # Red: no decay in the denominator, the upper or the mean of the middle two (12 and 24
    # elements), a sign left on, bounds forgotten or swapped, medians of several layers.
    weights, gradients, rates = problem(0)
    expected = oracle(weights, gradients, rates, momentum, form, 0.3, exclude, magnitudes)
    options = {"momentum": momentum, "form": form, "exclude": exclude, "magnitudes": magnitudes}
    optimizer = MCLR(parameters(weights), weight_decay=0.3, bounds=(0.05, 20.0), **options)
    torch.testing.assert_close(run(optimizer, gradients, rates), expected, rtol=1e-11, atol=1e-12)


def scale(weight, gradient, **options):
    parameter = torch.nn.Parameter(weight)
    parameter.grad = gradient
    optimizer = MCLR([parameter], lr=0.0, momentum=0.0, **options)
    optimizer.step()
    return optimizer.state[parameter]["scale"]


def test_is_no_statistic_of_the_curvature_radius():
    """CURV 4.3 reads it as one: yet with the same R_i = |w_i/g_i| the scales differ."""
    w, g = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([1.0, 2.0, 3.0])
    c = torch.tensor([10.0, 1.0, 0.2])  # a factor on both leaves each radius as it is
    torch.testing.assert_close(w / g, (c * w) / (c * g))
    first, second = scale(w, g), scale(c * w, c * g)
    assert (first.item(), second.item()) == (2.0, pytest.approx(4 / 2))
    c = torch.tensor([4.0, 0.1, 1.0])
    assert scale(c * w, c * g).item() == pytest.approx(4.0 / 3.0)
    # and with the same weights and gradients, paired otherwise, the radii differ, s does not
    assert scale(w, g.flip(0)) == first


def test_the_median_of_an_even_number_is_the_lower_middle_one():
    w, g = torch.tensor([1.0, 2.0, 5.0, 9.0]), torch.tensor([8.0, 0.5, 4.0, 3.0])
    assert scale(w, g).item() == pytest.approx(2.0 / 3.0)


def test_signed_medians_have_heavy_tails_and_those_of_magnitudes_have_not():
    """The known failure: of symmetric w and g the quotient is like Cauchy's."""
    signed, plain = [], []
    for _ in range(300):
        w, g = torch.randn(2, 101)
        wide = {"bounds": (1e-9, 1e9)}
        signed.append(scale(w, g, **wide).item())
        plain.append(scale(w, g, magnitudes=True, **wide).item())
    assert max(signed) > 30  # a tail of Cauchy: 300 draws reach some 200 times their median
    assert 0.5 < min(plain) < max(plain) < 2


def test_bounds_hold():
    w, g = torch.ones(3), torch.full((3,), 1e-3)
    assert scale(w, g).item() == 100.0
    assert scale(w, 1e6 * g, bounds=(0.01, 1.0)).item() == pytest.approx(0.01)
    assert scale(w, g, bounds=(1.0, 1e4)).item() == pytest.approx(1e3)


@pytest.mark.parametrize(
    ("weight", "gradient"),
    [([0.0, 0.0], [2.0, 2.0]), ([3.0, 3.0], [0.0, 0.0]), ([0.0] * 2, [0.0] * 2), ([], []),
     ([-1.0, 0.0, 1.0], [2.0, 2.0, 2.0])],
)  # fmt: skip
@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_median_of_zero_means_scale_one(weight, gradient, magnitudes, dtype):
    # Red: 0/0, a zero bias that never moves, the NaN that torch gives for no elements.
    if magnitudes and len(weight) == 3:
        weight = [0.0, 0.0, 1.0]
    w, g = torch.tensor(weight, dtype=dtype), torch.tensor(gradient, dtype=dtype)
    assert scale(w, g, magnitudes=magnitudes, weight_decay=0.1) == 1


def test_a_median_below_the_normal_numbers_counts_as_zero():
    # Where those are flushed to zero the quotient would be NaN.
    assert scale(torch.tensor([1e-45]), torch.tensor([1e-45])) == 1


def test_a_denominator_of_zero_gives_the_largest_radius():
    # m(g) = -lambda*m(w): at the minimum of the decayed loss, as far as the medians can tell.
    assert scale(torch.ones(3), torch.full((3,), -0.5), weight_decay=0.5) == 100.0


def test_half_precision_divides_in_single():
    w, g = torch.full((5,), 100.0, dtype=torch.float16), torch.full((5,), 1e-4, dtype=torch.float16)
    found = scale(w, g, bounds=(1e-3, 1e9))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(100 / g[0].item(), rel=1e-6)  # beyond 65504


def test_a_gradient_that_is_not_a_number_shows():
    assert scale(torch.ones(3), torch.tensor([1.0, float("nan"), 2.0])).isnan()


def test_works_with_its_defaults():
    weights, gradients, _ = problem(2)
    optimizer = MCLR(parameters(weights))
    found = run(optimizer, gradients, [0.001] * 12)
    assert all(torch.isfinite(w).all() for w in found)
    assert optimizer.defaults["lr"] == 0.003
    assert optimizer.layerwise is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"magnitudes": 1}, "magnitudes must be one of True, False, got 1"),
        ({"bounds": (1.0, 0.5)}, r"bounds must be the lower, then the higher bound, got \(1.0, 0"),
        ({"bounds": (0.0, 0.5)}, r"bounds\[0\] must be a finite number above 0, got 0.0"),
        ({"bounds": 3.0}, r"bounds must be a pair \(lower, higher\), got 3.0"),
        ({"exclude": "bias"}, "exclude must be one of '1d', 'all', None, got 'bias'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MCLR([torch.nn.Parameter(torch.ones(1))], **options)
