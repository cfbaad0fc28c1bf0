"""Update sizes against weights written down before and after, and momentum against its bound."""

import math

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.probes import UpdateSize


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def step(model, optimizer, seed=0):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "rule",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01)),
        lambda p: lb.SNGM(p, lr=0.2),
        lambda p: lb.LARS(p, lr=0.3),
    ],
)
def test_sizes_are_those_of_the_weights(rule):
    # Red: the norm or the signed mean in place of magnitudes, the rate of after the step.
    model = network()
    optimizer = rule(model.parameters())
    probe = UpdateSize(model)
    probe.attach(optimizer)
    searched = [0.0] * 4
    for t in range(3):
        rate = float(optimizer.param_groups[0]["lr"])
        before = [p.detach().clone() for p in model.parameters()]
        step(model, optimizer, t)
        pairs = zip(model.parameters(), before, strict=True)
        sizes = [float((p.detach() - b).abs().mean()) for p, b in pairs]
        searched = [a + b for a, b in zip(searched, sizes, strict=True)]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * 0.5
    found = probe.result()
    assert found.layers == [n for n, _ in model.named_parameters()]
    assert found.mean_magnitude == pytest.approx(sizes, rel=1e-5)
    assert found.lr == pytest.approx([rate] * 4)
    assert found.mean_magnitude_over_lr == pytest.approx([s / rate for s in sizes], rel=1e-5)
    assert found.searched_space == pytest.approx(searched, rel=1e-5)
    assert found.steps == 3


def test_momentum_of_torchs_own_sgd():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.75)
    probe = UpdateSize(model)
    probe.attach(optimizer)
    step(model, optimizer)
    found = probe.result()
    norms = [float(p.grad.norm()) for p in model.parameters()]
    assert found.momentum_norm == pytest.approx(norms)
    assert found.momentum_total == pytest.approx(math.hypot(*norms))
    assert found.momentum_bound == 4


@pytest.mark.parametrize("form", ["gradient", "velocity"])
def test_normalized_momentum_comes_up_to_its_bound_and_never_above(form):
    # Red: the buffer without its scale. With one gradient for ever ||u|| is the geometric sum.
    weight = nn.Parameter(torch.zeros(3))
    model = nn.Module()
    model.weight = weight
    optimizer = lb.SNGM([weight], lr=0.5, momentum=0.75, form=form)
    probe = UpdateSize(model)
    probe.attach(optimizer)
    for t in range(40):
        weight.grad = torch.tensor([3.0, 4.0, 12.0]) * (1 + t)
        optimizer.step()
        found = probe.result()
        assert found.momentum_total == pytest.approx((1 - 0.75 ** (t + 1)) / 0.25, rel=1e-5)
        assert found.momentum_total <= found.momentum_bound + 1e-5
    assert found.momentum_bound == 4


def test_no_momentum_is_none():
    for rule in (torch.optim.AdamW, torch.optim.SGD):
        model = network()
        optimizer = rule(model.parameters(), lr=0.1)
        probe = UpdateSize(model)
        probe.attach(optimizer)
        step(model, optimizer)
        found = probe.result()
        assert (found.momentum_norm, found.momentum_total, found.momentum_bound) == (None,) * 3


def test_several_optimizers_and_a_frozen_layer():
    model = network()
    model[0].bias.requires_grad_(False)
    parts = [torch.optim.SGD(m.parameters(), lr=lr) for m, lr in ((model[2], 0.1), (model[0], 0.2))]
    probe = UpdateSize(model)
    handle = probe.attach(*parts)
    model(torch.randn(8, 4)).square().mean().backward()
    for each in parts:
        each.step()
    found = probe.result()
    assert found.layers == ["0.weight", "2.weight", "2.bias"]
    assert found.lr == [0.2, 0.1, 0.1]
    gradients = [float(dict(model.named_parameters())[n].grad.abs().mean()) for n in found.layers]
    assert found.mean_magnitude_over_lr == pytest.approx(gradients, rel=1e-4)
    handle.remove()
    parts[0].step()
    assert probe.result() == found


def test_every_so_many_steps_stand_for_the_others():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = UpdateSize(model, every=2)
    probe.attach(optimizer)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for _ in range(4):
        optimizer.step()
    assert probe.result().searched_space == pytest.approx([0.4] * 4, rel=1e-4)
    assert probe.result().steps == 2


def test_what_is_wrong_is_said():
    probe = UpdateSize(network())
    with pytest.raises(RuntimeError, match=r"UpdateSize has measured no step yet: probe\.attach"):
        probe.result()
    with pytest.raises(TypeError, match=r"attach\(\) takes the optimizers .* got 3"):
        probe.attach(3)
    with pytest.raises(TypeError, match=r"attach\(\) takes the optimizers .* got none"):
        probe.attach()
