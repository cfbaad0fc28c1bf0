"""What annealed noise adds: its mean, its covariance, how it fades, and what else it is not."""

import math

import pytest
import torch

import largebatch as lb
from largebatch.gradient_noise import AnnealedNoise
from largebatch.seeding import normal


def drawn(noise, step, shapes=((64, 64),), dtype=torch.float64, scale=1.0):
    """The noise alone: what is added to zeros."""
    zeros = [torch.zeros(shape, dtype=dtype) for shape in shapes]
    noise.add(zeros, step, scale)
    return zeros


@pytest.mark.parametrize("step", [0, 1, 9, 1000])
@pytest.mark.parametrize(("eta", "gamma"), [(0.3, 0.55), (1.0, 0.0), (0.01, 0.9)])
def test_is_normal_with_the_deviation_of_equation_2(step, eta, gamma):
    # Red: the variance for the deviation (Neelakantan et al.), another gamma, t from 1, t / gamma.
    expected = eta / (1 + step) ** gamma
    n = 200_000
    (found,) = drawn(AnnealedNoise(eta, gamma), step, [(n,)])
    ratio = found / expected
    # Five standard errors of each moment of a standard normal.
    assert abs(ratio.mean()) < 5 / math.sqrt(n)
    assert abs(ratio.square().mean() - 1) < 5 * math.sqrt(2 / n)
    assert abs(ratio.pow(3).mean()) < 5 * math.sqrt(15 / n)
    assert abs(ratio.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert AnnealedNoise(eta, gamma).deviation(step) == expected


def test_gamma_is_the_documents():
    assert AnnealedNoise(0.3).deviation(1) == 0.3 / 2**0.55
    assert AnnealedNoise(0.3).seed == 0
    assert AnnealedNoise(0.3).placement == "gradient"


def test_covariance_over_steps_and_parameters_is_the_identity():
    # 12 coordinates of three parameters, those of one shape among them, over 4,000 steps.
    noise = AnnealedNoise(1.0, gamma=0.0)
    steps = 4000
    rows = [
        torch.cat([t.flatten() for t in drawn(noise, t, [(2, 2), (4,), (4,)])])
        for t in range(steps)
    ]
    samples = torch.stack(rows)
    covariance = samples.T @ samples / steps
    bound = 5.5 / math.sqrt(steps)  # of 78 entries, the diagonal's by sqrt(2) wider
    assert (covariance - torch.eye(12)).abs().max() < bound * math.sqrt(2)
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < bound
    assert samples.mean(0).abs().max() < bound


def correlation(a, b):
    return float(
        (a.flatten() * b.flatten()).mean() / (a.square().mean() * b.square().mean()).sqrt()
    )


def test_steps_seeds_and_parameters_are_independent():
    noise = AnnealedNoise(0.3)
    shapes = [(200, 200)] * 2
    base, beside = drawn(noise, 3, shapes)
    others = [
        beside,
        *drawn(noise, 4, shapes),
        *drawn(AnnealedNoise(0.3, seed=1), 3, shapes),
        *drawn(AnnealedNoise(0.3, seed=3), 0, shapes),
    ]
    assert all(abs(correlation(base, other)) < 5 / 200 for other in others)
    assert correlation(base, drawn(AnnealedNoise(9.0, seed=0), 3, shapes)[0]) > 1 - 1e-9


def test_is_independent_of_what_perturbations_draw_with_the_same_seed():
    # Red: named (seed, step, place) in the way of another's (seed, step, worker, place).
    noise = AnnealedNoise(1.0, seed=5)
    (found,) = drawn(noise, 0, [(200, 200)])
    weights = torch.ones(200, 200, dtype=torch.float64)
    for step in range(3):
        for worker in range(3):
            for place in range(3):
                name = (5, step, worker, place)
                assert abs(correlation(found, normal(weights, *name))) < 5 / 200
                assert abs(correlation(found, normal(weights, *name[:3]))) < 5 / 200


def test_a_perturbations_draws_of_a_run_do_not_come_again(monkeypatch):
    """Names of all draws of a run with RNC, extrapolation's, and this noise: none comes twice."""
    from largebatch import gradient_noise, seeding
    from largebatch.perturb import rnc

    names = []

    def generator(device, *parts):
        names.append(parts)
        return torch.Generator(device=device).manual_seed(seeding.key(*parts))

    for module in (seeding, rnc):
        monkeypatch.setattr(module, "generator", generator)
    assert gradient_noise.normal is seeding.normal
    for perturb in (lb.RNC(0.1), lb.Extrapolation(0.1, "noise"), lb.MatchedNoise(0.1, "isotropic")):
        names.clear()
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        noise = AnnealedNoise(0.1)
        workers = lb.Workers(model, optimizer, perturb, count=3, gradient_noise=noise)
        for _ in range(4):
            workers.backward(lambda x, m=model: m(x).sum(), torch.randn(6, 3))
            optimizer.step()
        mine = {name for name in names if name[1] < 0}
        assert len(mine) == 4 * 2
        assert len(names) > len(mine)


def test_channels_last_makes_no_difference():
    plain = torch.zeros(4, 3, 5, 5)
    other = plain.clone(memory_format=torch.channels_last)
    for each in (plain, other):
        AnnealedNoise(1.0).add([each], 0, 1.0)
    assert torch.equal(plain, other)
    assert other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_get_noise_of_float32_rounded_once(dtype):
    # Red: drawn in the half (8 or 11 bits), or rounded before it is added.
    gradient = torch.randn(50_000).to(dtype)
    (noise,) = drawn(AnnealedNoise(0.01), 2, [(50_000,)], torch.float32)
    expected = (gradient.float() + noise).to(dtype)
    twice = gradient + noise.to(dtype)
    AnnealedNoise(0.01).add([gradient], 2, 1.0)
    assert torch.equal(gradient, expected)
    assert not torch.equal(gradient, twice)


def test_float64_is_drawn_in_float64():
    (found,) = drawn(AnnealedNoise(1.0), 0, [(1000,)])
    assert (found != found.float().double()).float().mean() > 0.9


@pytest.mark.parametrize("scale", [1024.0, torch.tensor(1024.0)], ids=["number", "tensor"])
def test_is_multiplied_by_the_scale(scale):
    (plain,) = drawn(AnnealedNoise(0.3), 7)
    (scaled,) = drawn(AnnealedNoise(0.3), 7, scale=scale)
    assert torch.equal(scaled, plain * 1024)  # a power of two: to the bit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": -0.1}, "needs 0 <= eta < infinity, got eta=-0.1"),
        ({"eta": float("nan")}, "needs 0 <= eta < infinity, got eta=nan"),
        ({"eta": float("inf")}, "got eta=inf"),
        ({"gamma": -1.0}, "needs 0 <= gamma < infinity, got gamma=-1.0"),
        ({"seed": 2**63}, "a seed of 64 signed bits, got seed=9223372036854775808"),
        ({"placement": "loss"}, "placement='gradient' or 'weights', got placement='loss'"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AnnealedNoise(**{"eta": 0.1, **arguments})


def test_eta_gamma_and_seed_come_in_that_order():
    assert AnnealedNoise(0.3, 0.6, 7) == AnnealedNoise(eta=0.3, gamma=0.6, seed=7)
    with pytest.raises(TypeError, match="positional"):
        AnnealedNoise(0.3, 0.6, 7, "weights")
