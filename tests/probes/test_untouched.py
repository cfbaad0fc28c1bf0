"""What a probe may use, it gives back: every kind of state that a look can change."""

import pytest
import torch
from torch import nn

from largebatch.probes import untouched


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.linear = nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(self.drop(self.norm(x)))


def everything(model):
    return {
        "weights": {n: p.detach().clone() for n, p in model.named_parameters()},
        "buffers": {n: b.clone() for n, b in model.named_buffers()},
        "gradients": {n: (id(p.grad), p.grad.clone()) for n, p in model.named_parameters()},
        "modes": [m.training for m in model.modules()],
        "requires": [p.requires_grad for p in model.parameters()],
        "random": torch.get_rng_state(),
        "recording": torch.is_grad_enabled(),
    }


def meddle(model):
    assert all(p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled()
    model.drop.eval()
    model(torch.randn(8, 3)).pow(2).sum().backward()
    model.linear.bias.requires_grad_(False)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)


def compare(a, b):
    """Whether two nests of tensors and values are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(compare(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(compare(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("recording", [False, True])
def test_all_is_as_it_was(fails, recording):
    torch.manual_seed(0)
    model = Net()
    model(torch.randn(8, 3)).sum().backward()
    model.norm.eval()
    with torch.set_grad_enabled(recording):
        before = everything(model)
        try:
            with untouched(model, weights=True):
                meddle(model)
                if fails:
                    raise KeyError
        except KeyError:
            pass
        after = everything(model)
    assert {key: compare(before[key], after[key]) for key in before} == dict.fromkeys(before, True)


class Rebinds(nn.Module):
    """Puts new tensors in its buffers' places, as many do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
        self.register_buffer("late", x.sum())
        return x @ self.weight


def test_a_buffer_that_the_model_exchanges_is_the_old_one_again():
    model = Rebinds()
    mean = model.mean
    with untouched(model):
        model(torch.ones(2, 3))
    assert model.mean is mean
    assert float(mean) == 0.0
    assert list(dict(model.named_buffers())) == ["mean"]


def test_two_looks_from_one_seed_see_the_same_dropout():
    model = nn.Dropout(0.5)
    seen = []
    for _ in range(2):
        torch.rand(3)
        with untouched(model, seed=7):
            seen.append(model(torch.ones(64)))
    assert torch.equal(*seen)
