"""Every optimizer of torch that is not refused works with workers, whatever torch brings next."""

import inspect

import pytest
import torch
from torch import nn

import largebatch as lb

REFUSED = {"Optimizer", "LBFGS", "SparseAdam"}
MATRICES_ONLY = {"Muon"}
NAMES = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and name not in REFUSED
)


def test_finds_the_optimizers():
    assert {"SGD", "Adam", "AdamW", "NAdam", "Adagrad", "Rprop", "RMSprop"} <= set(NAMES)


def make(name):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    optimizer = getattr(torch.optim, name)
    if name not in MATRICES_ONLY:
        return model, [optimizer(model.parameters(), lr=0.01)]
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    return model, [optimizer(matrices, lr=0.01), torch.optim.AdamW(rest, lr=0.01)]


def train(name, perturb):
    """Five steps; with perturb=None by a plain accumulation loop."""
    model, optimizers = make(name)
    workers = lb.Workers(model, optimizers, perturb, count=4) if perturb else None
    torch.manual_seed(6)
    for _ in range(5):
        x, y = torch.randn(8, 4), torch.randint(3, (8,))

        def fn(x, y):
            return nn.functional.cross_entropy(model(x), y)

        if workers:
            workers.backward(fn, x, y)
        else:
            model.zero_grad()
            for xi, yi in zip(x.split(2), y.split(2), strict=True):
                (fn(xi, yi) / 4).backward()
        for optimizer in optimizers:
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]), workers


@pytest.mark.parametrize("name", NAMES)
def test_works_with_gnc(name):
    plain, _ = train(name, None)
    still, _ = train(name, lb.GNC(0.0))
    moved, workers = train(name, lb.GNC(50.0, "plain"))
    torch.testing.assert_close(still, plain, rtol=1e-4, atol=1e-5)
    assert moved.isfinite().all()
    assert not torch.equal(moved, still)
    assert workers.offset_to_weight_norm > 0
