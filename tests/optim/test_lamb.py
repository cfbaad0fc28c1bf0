"""LAMB against its equation, AdamW, and its own other way through memory."""

import math

import pytest
import torch

from largebatch.optim import LAMB, layers

SHAPES = [(3, 4), (4,), (2, 3, 2, 2), (), (0, 3), (5, 2)]  # the last starts at zero
RATES = [0.1, 0.2, 0.05, 0.3, 0.1, 0.1, 0.02, 0.4]


def problem(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]

    weights = draw()
    weights[-1].zero_()
    cast = [[t.to(dtype) for t in tensors] for tensors in (weights, *(draw() for _ in RATES))]
    return cast[0], cast[1:]


def oracle(weights, steps, betas, eps, decay, corrects, exclude, clip):
    """The equation, a layer at a time."""
    ends = []
    for i, w in enumerate(weights):
        out = exclude == "all" or (exclude == "1d" and w.ndim <= 1)
        lam = 0.0 if out and exclude == "1d" else decay
        m = v = torch.zeros_like(w)
        for t, (step, eta) in enumerate(zip(steps, RATES, strict=True), start=1):
            m = betas[0] * m + (1 - betas[0]) * step[i]
            v = betas[1] * v + (1 - betas[1]) * step[i] ** 2
            c1, c2 = (1 - beta**t if corrects else 1.0 for beta in betas)
            r = (m / c1) / ((v / c2).sqrt() + eps) + lam * w
            phi = w.norm() if clip is None else w.norm().clamp(*clip)
            s = 1.0 if out or phi == 0 or r.norm() == 0 else phi / r.norm()
            w = w - eta * s * r
        ends.append(w)
    return ends


def run(weights, steps, rates=RATES, **options):
    parameters = [torch.nn.Parameter(w.clone()) for w in weights]
    optimizer = LAMB(parameters, **options)
    for step, rate in zip(steps, rates, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [p.detach() for p in parameters], optimizer


def close(found, wanted, atol=1e-12):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("way", [{}, {"fused": False}, {"foreach": False}])
@pytest.mark.parametrize("exclude", [None, "1d", "all"])
@pytest.mark.parametrize("clip", [None, (0.0, 1.5), (2.5, math.inf), (2.0, 2.5)])
@pytest.mark.parametrize("corrects", [True, False])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5), (0.5, 0.0)])
def test_follows_its_equation(betas, corrects, clip, exclude, way):
    # Red: eps inside the root, decay outside the norm, a correction left out or taken twice, phi
    # applied to the ratio, zero weights that stay, an excluded parameter scaled or decayed.
    for seed in range(2):
        weights, steps = problem(seed)
        options = {"betas": betas, "eps": 0.01, "exclude": exclude, "clip": clip}
        more = {"weight_decay": 0.7, "bias_correction": corrects}
        found, _ = run(weights, steps, **options, **more, **way)
        close(found, oracle(weights, steps, betas, 0.01, 0.7, corrects, exclude, clip))


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_ways_agree_over_many_batches_of_pieces(monkeypatch, decay):
    # Red: a piece or a batch that is skipped or taken twice, a norm of one piece alone, directions
    # that a neighbour's overwrite.
    monkeypatch.setattr(layers, "_PIECE", 5)
    torch.manual_seed(0)
    shapes = [(7, 9), (2, 2), (1, 3), (30, 1), (2, 50), (1, 1), (3, 2)]
    weights = [torch.randn(s, dtype=torch.float64) for s in shapes]
    steps = [[torch.randn_like(w) for w in weights] for _ in RATES]
    found, optimizer = run(weights, steps, weight_decay=decay)
    wanted, other = run(weights, steps, weight_decay=decay, fused=False)
    close(found, wanted)
    states = [[o.state[p] for p in o.param_groups[0]["params"]] for o in (optimizer, other)]
    for mine, theirs in zip(*states, strict=True):
        assert mine.keys() == theirs.keys()
        close(list(mine.values()), list(theirs.values()))


@pytest.mark.parametrize("way", [{}, {"fused": False}])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_without_its_ratio_it_is_adamw(decay, way):
    # lambda*w is inside r: unscaled, that is AdamW's decoupled decay.
    weights, steps = problem(3)
    found, _ = run(weights, steps, [0.01] * 8, weight_decay=decay, exclude="all", **way)
    theirs = [torch.nn.Parameter(w.clone()) for w in weights]
    optimizer = torch.optim.AdamW(theirs, lr=0.01, eps=1e-6, weight_decay=decay)
    for step in steps:
        for parameter, gradient in zip(theirs, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    close(found, [p.detach() for p in theirs])


def test_maximize_is_the_equation_of_the_negative():
    weights, steps = problem(4)
    negative = [[-g for g in step] for step in steps]
    options = ((0.9, 0.999), 1e-6, 0.1, True, None, None)
    found, _ = run(weights, steps, weight_decay=0.1, exclude=None, maximize=True)
    close(found, oracle(weights, negative, *options))


@pytest.mark.parametrize("way", [{}, {"fused": False}])
def test_every_layer_moves_by_the_rate_s_share_of_its_length(way):
    weights, steps = problem(5)
    for scale in (1e-3, 1.0, 1e3):
        scaled = [w * scale for w in weights[:1]]
        found, optimizer = run(scaled, [[s[0]] for s in steps[:1]], [0.1], **way)
        close(
            (found[0] - scaled[0]).norm() / scaled[0].norm(), torch.tensor(0.1, dtype=torch.float64)
        )
        [state] = optimizer.state.values()
        assert state["step"] == 1
        assert state["step"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_its_equation(dtype):
    # Red: moments or norms in half precision, in which 0.999*v is v and squares vanish.
    weights, steps = problem(6, dtype)
    wide = [[t.double() for t in tensors] for tensors in (weights, *steps)]
    wanted = oracle(wide[0], wide[1:], (0.9, 0.999), 1e-6, 0.1, True, "1d", None)
    found, _ = run(weights, steps, weight_decay=0.1, state_dtype=torch.float32)
    assert all(w.dtype == dtype for w in found)
    torch.testing.assert_close([w.double() for w in found], wanted, rtol=0.03, atol=0.05)


@pytest.mark.parametrize("way", [{}, {"fused": False}])
def test_corrections_are_exact_in_single_precision(way):
    # Red: 1 - 0.9999**t computed in float32, of which three digits are right. Adam's first
    # direction is the gradient's sign.
    gradient = torch.tensor([[0.5, -2.0, 3.0]])
    options = {"betas": (0.9, 0.9999), "eps": 1e-12, "exclude": "all"}
    [found], _ = run([torch.zeros(1, 3)], [[gradient]], [1.0], **options, **way)
    close(found, -gradient.sign(), 1e-6)


@pytest.mark.parametrize("way", [{}, {"fused": False}])
def test_a_broken_layer_does_not_break_the_others(way, monkeypatch):
    # Red: a scratch that keeps the NaN of the layer before; zero times NaN is NaN.
    monkeypatch.setattr(layers, "_PIECE", 1)
    weights = [torch.ones(4, 4), torch.ones(4, 4), torch.ones(4, 4)]
    gradients = [torch.ones(4, 4) for _ in weights]
    gradients[0][1, 2] = math.nan
    found, _ = run(weights, [gradients], [0.1], **way)
    assert not torch.isfinite(found[0]).any()
    close(found[1:], [torch.full((4, 4), 0.9)] * 2, 1e-6)


def test_an_overflowing_direction_shows():
    # Red: ||w|| over an infinite norm is 0, and the step looks like none.
    for way in ({}, {"fused": False}):
        weight, gradient = torch.full((2, 2), 1e17), torch.ones(2, 2)
        [found], _ = run([weight], [[gradient]], [0.1], weight_decay=1e4, **way)
        assert not torch.isfinite(found).any()


def test_the_scratch_is_not_kept():
    weights, steps = problem(8)
    _, optimizer = run(weights, steps)
    kept = {name for state in optimizer.state.values() for name in state}
    assert kept == {"exp_avg", "exp_avg_sq", "scale", "step"}
    assert not any(torch.is_tensor(value) for value in vars(optimizer).values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers.*got \(0.9, 1.0\)"),
        ({"betas": 0.9}, "betas must be two numbers.*got 0.9"),
        ({"betas": (0.9, 0.9, 0.9)}, "betas must be two numbers"),
        ({"eps": -1.0}, "eps must be a finite number above 0, got -1.0"),
        ({"clip": (2.0, 1.0)}, r"clip must be None or \(low, high\).*got \(2.0, 1.0\)"),
        ({"clip": (0.0, 0.0)}, "clip must be None or"),
        ({"clip": 1.0}, "clip must be None or"),
        ({"clip": (math.nan, 1.0)}, "clip must be None or"),
        ({"bias_correction": 1}, "bias_correction must be one of True, False, got 1"),
        ({"exclude": "2d"}, "exclude must be one of '1d', 'all', None, got '2d'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LAMB([torch.nn.Parameter(torch.ones(2))], **options)
