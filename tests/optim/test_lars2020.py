"""LARS of 2020 against its equation and its own other way through memory."""

import math

import pytest
import torch

from largebatch.optim import LARS2020, layers

SHAPES = [(3, 4), (4,), (2, 3, 2, 2), (), (0, 3), (5, 2)]  # the last starts at zero
RATES = [0.1, 0.2, 0.05, 0.3, 0.1, 0.1, 0.02, 0.4]


def problem(seed, dtype=torch.float64, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]

    weights = draw()
    weights[-1].zero_()
    cast = [[t.to(dtype) for t in tensors] for tensors in (weights, *(draw() for _ in RATES))]
    return cast[0], cast[1:]


def oracle(weights, steps, beta, decay, exclude, clip):
    """The equation, a layer at a time; returns the momenta, too."""
    ends, momenta = [], []
    for i, w in enumerate(weights):
        out = exclude == "all" or (exclude == "1d" and w.ndim <= 1)
        lam = 0.0 if out and exclude == "1d" else decay
        u = torch.zeros_like(w)
        for step, eta in zip(steps, RATES, strict=True):
            u = beta * u + (1 - beta) * (step[i] + lam * w)
            phi = w.norm() if clip is None else w.norm().clamp(*clip)
            s = 1.0 if out or phi == 0 or u.norm() == 0 else phi / u.norm()
            w = w - eta * s * u
        ends.append(w)
        momenta.append(u)
    return ends, momenta


def run(weights, steps, **options):
    parameters = [torch.nn.Parameter(w.clone()) for w in weights]
    optimizer = LARS2020(parameters, **options)
    for step, rate in zip(steps, RATES, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [p.detach() for p in parameters], optimizer


def states(optimizer):
    return [optimizer.state[p] for p in optimizer.param_groups[0]["params"]]


def close(found, wanted, atol=1e-12):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("way", [{}, {"fused": False}, {"foreach": False}])
@pytest.mark.parametrize("exclude", [None, "1d", "all"])
@pytest.mark.parametrize("clip", [None, (0.0, 1.5), (2.5, math.inf), (2.0, 2.5)])
@pytest.mark.parametrize("decay", [0.0, 0.7])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9])
def test_follows_its_equation(beta, decay, clip, exclude, way):
    # Red: momentum of scaled gradients (the form of 2017), decay outside it, 1 - beta left out
    # where no ratio cancels it, phi applied to the ratio, zero weights that stay, an excluded
    # parameter scaled or decayed.
    for seed in range(2):
        weights, steps = problem(seed)
        options = {"momentum": beta, "weight_decay": decay, "exclude": exclude, "clip": clip}
        found, optimizer = run(weights, steps, **options, **way)
        wanted, momenta = oracle(weights, steps, beta, decay, exclude, clip)
        close(found, wanted)
        if beta:
            close([state["momentum_buffer"] for state in states(optimizer)], momenta)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_ways_agree_over_many_batches_of_pieces(monkeypatch, decay):
    # Red: a piece or a batch that is skipped or taken twice, a norm of one piece alone, the
    # gradient of another piece.
    monkeypatch.setattr(layers, "_PIECE", 5)
    shapes = [(7, 9), (2, 2), (1, 3), (30, 1), (2, 50), (1, 1), (3, 2)]
    weights, steps = problem(0, shapes=shapes)
    found, optimizer = run(weights, steps, weight_decay=decay)
    wanted, other = run(weights, steps, weight_decay=decay, fused=False)
    close(found, wanted)
    for mine, theirs in zip(states(optimizer), states(other), strict=True):
        assert mine.keys() == theirs.keys() == {"momentum_buffer", "scale"}
        close(list(mine.values()), list(theirs.values()))


def test_maximize_is_the_equation_of_the_negative():
    weights, steps = problem(4)
    negative = [[-g for g in step] for step in steps]
    found, _ = run(weights, steps, weight_decay=0.1, exclude=None, maximize=True)
    close(found, oracle(weights, negative, 0.9, 0.1, None, None)[0])


def test_the_factor_of_the_average_cancels_in_the_ratio():
    # A constant gradient: u is g times 1 - beta^t, and every step the same share of the length.
    weight, gradient = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1e-3]])
    before = weight
    for rate in RATES[:3]:
        [found], _ = run([weight], [[gradient]] * (RATES.index(rate) + 1))
        torch.testing.assert_close((found - before).norm(), rate * before.norm())
        before = found


@pytest.mark.parametrize("state_dtype", [None, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_its_equation(dtype, state_dtype):
    # Red: norms in half precision, momentum that is computed in a copy and forgotten.
    weights, steps = problem(6, dtype)
    wide = [[t.double() for t in tensors] for tensors in (weights, *steps)]
    wanted, momenta = oracle(wide[0], wide[1:], 0.9, 0.1, "1d", None)
    found, optimizer = run(weights, steps, weight_decay=0.1, state_dtype=state_dtype)
    assert all(w.dtype == dtype for w in found)
    kept = [state["momentum_buffer"] for state in states(optimizer)]
    assert all(u.dtype == (state_dtype or dtype) for u in kept)
    for halves, full in ((found, wanted), (kept, momenta)):
        torch.testing.assert_close([t.double() for t in halves], full, rtol=0.03, atol=0.05)


def test_with_momentum_or_without_weights_never_cross_zero():
    # With one weight a layer u/||u|| is a sign: w is multiplied by 1 - eta or 1 + eta. (Momentum
    # of scaled gradients, the form of 2017, crosses: see the notes on the counter-example.)
    for momentum in (0.0, 0.9):
        weight = torch.nn.Parameter(torch.tensor([[1.0]], dtype=torch.float64))
        optimizer = LARS2020([weight], lr=0.1, momentum=momentum)
        for _ in range(200):
            weight.grad = weight.detach() + 1.0
            optimizer.step()
            assert weight.item() > 0
        assert weight.item() < 1e-8  # where the loss (w + 1)^2 / 2 has no minimum
