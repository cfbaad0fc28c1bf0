"""PercentDelta against its equation, and as the harmonic mean of the curvature radius."""

import pytest
import torch

from largebatch.optim.lars import LARS
from largebatch.optim.percentdelta import PercentDelta

SHAPES = [(3, 4), (4,), (2, 3, 2, 2), ()]


def oracle(weights, gradients, rates, momentum, form, decay, exclude):
    """The equation, a layer at a time."""
    ends = []
    for i, w in enumerate(weights):
        out = exclude == "all" or (exclude == "1d" and w.ndim <= 1)
        lam = 0.0 if out and exclude == "1d" else decay
        u = torch.zeros_like(w)
        for step, eta in zip(gradients, rates, strict=True):
            g = step[i]
            guarded = torch.where(w.abs() < 1e-6, torch.where(w < 0, -1e-6, 1e-6), w)
            s = 1.0 if out else w.numel() / (g / guarded).abs().sum()
            h = g + lam * w
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
    weights[0][0, 0], weights[2][0, 0] = 0.0, -1e-9  # guarded
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


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("exclude", [None, "1d", "all"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", ["gradient", "velocity", "buffer"])
def test_follows_its_equation(form, momentum, exclude, foreach):
    # Red: decay in the scale, no guard or the other way round, a sum over several layers, a mean
    # in place of the harmonic mean.
    weights, gradients, rates = problem(0)
    expected = oracle(weights, gradients, rates, momentum, form, 0.3, exclude)
    options = {"momentum": momentum, "form": form, "exclude": exclude, "foreach": foreach}
    found = run(PercentDelta(parameters(weights), weight_decay=0.3, **options), gradients, rates)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_the_defaults_are_the_document_s():
    weights, gradients, _ = problem(1)
    expected = oracle(weights, gradients, [0.01] * 12, 0.9, "gradient", 0.0, None)
    found = run(PercentDelta(parameters(weights)), gradients, [0.01] * 12)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert PercentDelta(parameters(weights)).defaults["lr"] == 0.01


def scale(rule, weight, gradient, **options):
    parameter = torch.nn.Parameter(weight)
    parameter.grad = gradient
    optimizer = rule([parameter], lr=0.0, momentum=0.0, form="gradient", **options)
    optimizer.step()
    return optimizer.state[parameter]["scale"]


def test_layerwise_rules_are_statistics_of_one_radius():
    """CURV 4.3: R_i = |w_i/g_i|; a harmonic mean, and a root mean square weighted by g^2."""
    w, g = torch.randn(2, 5, 7, dtype=torch.float64)
    radius = (w / g).abs()
    harmonic = 1 / (1 / radius).mean()
    torch.testing.assert_close(scale(PercentDelta, w.clone(), g), harmonic)
    weighted = ((g.square() * radius.square()).sum() / g.square().sum()).sqrt()
    found = scale(LARS, w.clone(), g, trust_coefficient=1.0, exclude=None)
    torch.testing.assert_close(found, weighted)


def test_a_step_changes_weights_by_the_rate_in_the_mean():
    w, g = torch.randn(2, 40, dtype=torch.float64)
    parameter = torch.nn.Parameter(w.clone())
    parameter.grad = 1e5 * g
    PercentDelta([parameter], lr=0.02, momentum=0.0).step()
    assert ((parameter.detach() - w) / w).abs().mean().item() == pytest.approx(0.02)


@pytest.mark.parametrize(("weight", "gradient"), [(3.0, 0.0), (0.0, 0.0), (1.0, 1e-45)])
def test_a_sum_of_zero_means_scale_one(weight, gradient):
    found = scale(PercentDelta, torch.full((2, 2), weight), torch.full((2, 2), gradient))
    assert found == 1


def test_an_empty_parameter_has_scale_one():
    assert scale(PercentDelta, torch.empty(0, 3), torch.empty(0, 3)) == 1


@pytest.mark.parametrize("start", [0.0, 1e-9, -1e-9])
def test_a_weight_near_zero_counts_as_a_millionth(start):
    # Red: 1/0, a sign lost, a zero weight that never moves.
    found = scale(PercentDelta, torch.full((3,), start), torch.full((3,), 2.0))
    assert found.item() == pytest.approx(1e-6 / 2)


def test_a_gradient_that_is_not_finite_shows():
    for broken in (float("inf"), float("nan")):
        assert scale(PercentDelta, torch.ones(3), torch.tensor([1.0, broken, 2.0])).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    # Red: 1e-6 is 0 in float16's normal numbers and g/w overflows there.
    w, g = torch.full((4000,), 1e-4, dtype=dtype), torch.full((4000,), 30.0, dtype=dtype)
    found = scale(PercentDelta, w, g)
    assert found.dtype == torch.float32
    expected = 1 / (g.double() / w.double()).abs().mean()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", [(1_500, 100), (2_000_000,)])
def test_many_elements_are_summed_without_loss(shape):
    # Red: torch's own 1-norm, off by 4e-3 for two million; a piece left out; a transposed pair.
    w, g = torch.randn(shape), torch.randn(shape) * 1e-3
    expected = w.numel() / (g.double() / w.double().abs().clamp_min(1e-6)).abs().sum()
    torch.testing.assert_close(scale(PercentDelta, w, g).double(), expected, rtol=1e-5, atol=0)
    if w.ndim == 2:
        found = scale(PercentDelta, w, g.T.contiguous().T).double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("of", ["weight", "gradient"])
def test_a_memory_format_changes_no_pair(of):
    w, g = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    expected = w.numel() / (g / w).abs().sum()
    last = torch.channels_last
    pair = (w.to(memory_format=last), g) if of == "weight" else (w, g.to(memory_format=last))
    torch.testing.assert_close(scale(PercentDelta, *pair), expected)


def test_the_compiled_and_the_accelerator_s_way_is_the_same(monkeypatch):
    monkeypatch.setattr("largebatch.optim.percentdelta.on_host", lambda tensor: False)
    for dtype in (torch.float64, torch.bfloat16):
        w, g = torch.randn(2, 30, 7, dtype=torch.float64).to(dtype)
        w[0] = 0
        expected = w.numel() / (g.double() / w.double().abs().clamp_min(1e-6)).abs().sum()
        found = scale(PercentDelta, w, g).double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="exclude must be one of '1d', 'all', None, got 'bias'"):
        PercentDelta([torch.nn.Parameter(torch.ones(1))], exclude="bias")
