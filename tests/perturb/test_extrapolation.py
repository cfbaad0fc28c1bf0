"""Extrapolation against its equations, written out."""

import math

import pytest
import torch
from torch.func import functional_call

import largebatch as lb
from largebatch.contracts import Point

ETA = 0.4


def gradient(model, weights, x, y):
    leaves = {n: w.detach().clone().requires_grad_() for n, w in weights.items()}
    loss = torch.nn.functional.cross_entropy(functional_call(model, leaves, (x,)), y)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def reference(model, data, kind, count, lr=0.3):
    """SGD; inner batches are the next worker's shard unless a step brings one."""
    w = {n: p.detach().clone() for n, p in model.named_parameters()}
    past = [None] * count
    for (x, y), inner in data:
        pieces = list(zip(x.chunk(count), y.chunk(count), strict=True))
        others = pieces[1:] + pieces[:1]
        if inner is not None:
            others = list(zip(inner[0].chunk(count), inner[1].chunk(count), strict=True))
        found = []
        for i in range(count):
            h = gradient(model, w, *others[i]) if kind == "fresh" else past[i]
            at = w if h is None else {n: w[n] - ETA * h[n] for n in w}
            found.append(gradient(model, at, *pieces[i]))
        past = found
        w = {n: w[n] - lr * sum(g[n] for g in found) / count for n in w}
    return w


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("kind", "inner"), [("fresh", False), ("fresh", True), ("past", False)])
def test_follows_the_equations(inner, kind, count, network, batches, loss_of):
    # Red: the worker's own shard looked on, the shard before, another sign, the mean gradient.
    data = batches(5, 8)
    inners = [(x.flip(0) * 0.5, y.flip(0)) if inner else None for x, y in data]
    expected = reference(network(), list(zip(data, inners, strict=True)), kind, count)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    workers = lb.Workers(model, optimizer, lb.Extrapolation(ETA, kind), count=count)
    for (x, y), other in zip(data, inners, strict=True):
        workers.backward(loss_of(model), x, y, inner=other)
        optimizer.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name], rtol=1e-10, atol=1e-12)


def test_the_kinds_differ_so_that_the_oracle_can_fail(network, batches):
    data = [(batch, None) for batch in batches(3, 8)]
    inner = [((x, y), (x.flip(0), y.flip(0))) for (x, y), _ in data]
    runs = [
        reference(network(), each, kind, count)
        for each, kind, count in ((data, "fresh", 1), (data, "fresh", 4), (data, "past", 4),
                                  (inner, "fresh", 4))
    ]  # fmt: skip
    for i, a in enumerate(runs):
        for b in runs[:i]:
            assert max((a[n] - b[n]).abs().max() for n in a) > 1e-4


def test_past_is_zero_at_the_first_step_and_then_not(network, batches, loss_of):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    workers = lb.Workers(model, optimizer, lb.Extrapolation(ETA, "past"), count=2)
    first, second = batches(2, 8)
    workers.backward(loss_of(model), *first)
    assert workers.offset_to_weight_norm == 0
    assert workers.bytes_needed == 2 * 8 * sum(p.numel() for p in model.parameters())
    workers.backward(loss_of(model), *second)
    assert workers.offset_to_weight_norm > 1e-3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["fresh", "past"])
def test_the_gradient_is_without_the_loss_scale(kind, reduction, network, batches, loss_of):
    # Red: offsets as many times too long as the scale says, or a share of the worker's gradient.
    found = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**9)):
        model = network(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        perturb = lb.Extrapolation(ETA, kind)
        how, share = (reduction, 0.5) if scaler and reduction == "sum" else ("mean", 1.0)
        workers = lb.Workers(model, optimizer, perturb, count=2, scaler=scaler, reduction=how)
        for x, y in batches(2, 8, torch.float32):
            workers.backward(lambda x, y, m=model, s=share: loss_of(m)(x, y) * s, x, y)
        found.append(workers.offset_to_weight_norm)
    assert found[0] > 1e-3
    torch.testing.assert_close(*found)


def test_noise_is_standard_normal_times_the_inner_rate():
    n = 40_000
    point = Point(3, [torch.zeros(200, 200), torch.zeros(5)], lambda kind: [9.0, 9.0])
    offset, small = lb.Extrapolation(0.2, "noise").offsets(point, 0, None)
    unit = (offset / 0.2).double().flatten()
    assert abs(unit.mean()) < 4 / math.sqrt(n)
    assert abs(unit.var() - 1) < 4 * math.sqrt(2 / n)
    # Kolmogorov-Smirnov: beyond 1.95/sqrt(n) with a probability of 0.001.
    normal = torch.special.ndtr(unit.sort().values)
    steps = torch.arange(n, dtype=torch.float64) / n
    assert (normal - steps).abs().max() < 1.95 / math.sqrt(n)
    assert (small != 0).all()


def test_seed_step_worker_and_parameter_name_the_noise():
    def draw(seed=0, step=0, worker=0, place=0):
        point = Point(step, [torch.zeros(2, 3)] * 2, lambda kind: [0.1] * 2)
        return lb.Extrapolation(1.0, "noise", seed).offsets(point, worker, None)[place]

    for other in ({"seed": 1}, {"step": 1}, {"worker": 1}, {"place": 1}):
        assert not torch.equal(draw(), draw(**other)), other
    assert torch.equal(draw(), draw())


def test_refuses_arguments():
    with pytest.raises(ValueError, match=r"0 <= inner_lr < infinity, got inner_lr=-0.1"):
        lb.Extrapolation(-0.1)
    with pytest.raises(ValueError, match="kind='fresh', 'past' or 'noise', got 'old'"):
        lb.Extrapolation(0.1, "old")
    with pytest.raises(ValueError, match="seed of 64 signed bits"):
        lb.Extrapolation(0.1, "noise", 2**63)
