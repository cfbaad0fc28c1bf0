"""RNC: sizes, distribution and seeding of its offsets."""

import math

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.contracts import Point


def point(weights, step=0, eta=0.5):
    return Point(step, weights, lambda kind: [eta] * len(weights))


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 7), (4, 3, 3, 3)])
def test_each_filter_moves_by_exactly_alpha_eta_times_its_norm(shape):
    weight = torch.randn(shape, dtype=torch.float64)
    weight[0] = 0.0
    (offset,) = lb.RNC(0.3).offsets(point([weight]), 1, None)
    for p in range(shape[0]):
        expected = 0.3 * 0.5 * weight[p].norm().item()
        assert offset[p].norm().item() == pytest.approx(expected, rel=1e-12)


def test_plain_is_uniform_between_minus_and_plus_alpha_eta():
    n = 40_000
    (offset,) = lb.RNC(0.4, "plain").offsets(point([torch.zeros(n)]), 0, None)
    unit = (offset / (0.4 * 0.5)).double().sort().values
    assert unit.abs().max() <= 1
    # Kolmogorov-Smirnov: beyond 1.95/sqrt(n) with a probability of 0.001.
    uniform = (unit + 1) / 2
    steps = torch.arange(n, dtype=torch.float64) / n
    distance = torch.maximum((uniform - steps).abs(), (uniform - steps - 1 / n).abs()).max()
    assert distance < 1.95 / math.sqrt(n)


def test_filter_wise_directions_are_those_of_the_unit_cube_with_zero_mean():
    weight = torch.ones(20_000, 3, dtype=torch.float64)
    (offset,) = lb.RNC(1.0).offsets(point([weight]), 0, None)
    unit = offset / offset.norm(dim=1, keepdim=True)
    assert unit.mean(0).abs().max() < 4 / math.sqrt(3 * 20_000)
    # A cube's diagonals are likelier than its axes, unlike a Gaussian's: E max|u|^2 is smaller.
    cube = torch.rand(200_000, 3, dtype=torch.float64) * 2 - 1
    cube /= cube.norm(dim=1, keepdim=True)
    fourth = [(u**4).sum(1).mean().item() for u in (unit, cube)]
    assert fourth[0] == pytest.approx(fourth[1], abs=0.006)
    assert abs(fourth[0] - 3 / 5) > 0.02  # 3/5: a Gaussian direction in three dimensions


def test_filter_wise_leaves_one_dimensional_parameters():
    offsets = lb.RNC(1.0).offsets(point([torch.ones(3), torch.ones(2, 2)]), 0, None)
    assert offsets[0] is None
    assert offsets[1] is not None


def draw(seed=0, step=0, worker=0, place=0):
    weights = [torch.ones(2, 3) for _ in range(place + 1)]
    return lb.RNC(1.0, seed=seed).offsets(point(weights, step), worker, None)[place]


def test_seed_step_worker_and_parameter_name_the_draw():
    base = draw()
    assert torch.equal(base, draw())
    for other in ({"seed": 1}, {"step": 1}, {"worker": 1}, {"place": 1}):
        assert not torch.equal(base, draw(**other)), other


def test_neither_reads_nor_moves_the_global_generator():
    first = draw()
    before = torch.get_rng_state()
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(draw(), first)
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


def test_draw_does_not_depend_on_the_memory_format():
    weight = torch.ones(4, 3, 2, 2)
    last = weight.to(memory_format=torch.channels_last)
    drawn = [lb.RNC(1.0).offsets(point([w]), 0, None)[0] for w in (weight, last)]
    assert torch.equal(*drawn)


def test_same_draws_in_another_order_of_workers():
    weights = [torch.ones(2, 3)]
    perturb = lb.RNC(1.0)
    forward = [perturb.offsets(point(weights, 5), i, None)[0] for i in (0, 1, 2)]
    backward = [perturb.offsets(point(weights, 5), i, None)[0] for i in (2, 1, 0)]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_needs_no_memory_and_works_with_one_worker():
    model = nn.Linear(3, 2)
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=1.0), lb.RNC(0.1))
    assert workers.bytes_needed == 0
    weight = model.weight.detach().clone()
    with workers.next():
        assert not torch.equal(model.weight, weight)
        model(torch.ones(1, 3)).sum().backward()
    assert workers.offset_to_weight_norm.item() == pytest.approx(
        0.1 * (weight.norm(dim=1) ** 2).sum().sqrt().item() / weight.norm().item(), rel=1e-6
    )


@pytest.mark.parametrize("arguments", [{"alpha": -1}, {"alpha": 1, "scaling": "x"}])
def test_refuses_arguments(arguments):
    with pytest.raises(ValueError, match="RNC needs"):
        lb.RNC(**arguments)


def test_refuses_a_seed_that_does_not_fit():
    with pytest.raises(ValueError, match=r"seed of 64 signed bits, got seed=9223372036854775808"):
        lb.RNC(1.0, seed=2**63)
