"""The look at where noise points, against a dense Hessian and vectors taken by hand."""

from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn import functional

import largebatch as lb
from largebatch.curvature import Eigenpairs
from largebatch.lab.probes.directions import PROBES
from largebatch.lab.probes.hessian import few_examples
from largebatch.lab.probes.moment import Moment
from largebatch.probes import alignment

LOOK = PROBES[0].look
M, FEW = 4, 24


def moment(model, workers, optimizer, **given):
    def loss(x, y):
        return functional.cross_entropy(model(x), y)

    source = torch.Generator().manual_seed(3)
    x = torch.randn(32, 5, generator=source, dtype=torch.float64)
    data = x, (x[:, 0] > 0).long()
    parts = {"step": 1, "epoch": 0.5, "seed": 7, "lr": 0.1, "losses": None, "batch": data,
             "train": data, "chunk": 32, "few": FEW}  # fmt: skip
    fields = set(Moment.__dataclass_fields__) - {*parts, "model", "loss", "workers", "optimizers"}
    parts |= dict.fromkeys(fields, 8)  # such as a worker's examples
    return Moment(model=model, loss=loss, workers=workers, optimizers=(optimizer,),
                  **(parts | given))  # fmt: skip


@pytest.fixture
def made():
    """A step with random noise is about to run."""
    torch.manual_seed(0)
    model = nn.Linear(5, 2, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def of(perturb):
        workers = lb.Workers(model, optimizer, perturb=perturb, count=M)
        return moment(model, workers, optimizer)

    return of


def exact(at):
    """All eigenpairs of the dense Hessian on the first examples, the five largest."""
    names = [name for name, _ in at.model.named_parameters()]
    shapes = [p.shape for p in at.model.parameters()]
    x, y = few_examples(at)

    def loss(flat):
        pieces = flat.split([s.numel() for s in shapes])
        state = dict(
            zip(names, (p.view(s) for p, s in zip(pieces, shapes, strict=True)), strict=True)
        )
        return functional.cross_entropy(torch.func.functional_call(at.model, state, (x,)), y)

    flat = torch.cat([p.detach().flatten() for p in at.model.parameters()])
    values, vectors = torch.linalg.eigh(torch.autograd.functional.hessian(loss, flat))
    order = values.abs().argsort(descending=True)[:5]
    parts = vectors[:, order].T.split([s.numel() for s in shapes], dim=1)
    found = [part.reshape(5, *s) for part, s in zip(parts, shapes, strict=True)]
    return Eigenpairs(values[order], found, torch.zeros(5))


def step(at):
    """The look around a step; what it says, and each worker's gradient where it looked."""
    look = LOOK(at)
    next(look)
    gradients = []
    for x, y in at.workers.shards(*at.batch):
        with at.workers.next():
            at.loss(x, y).backward()
            gradients.append([p.grad.clone() for p in at.model.parameters()])
    at.workers.combine()
    with pytest.raises(StopIteration) as stop:
        next(look)
    return stop.value.value, gradients


def stacked(of):
    return [torch.stack(row) for row in zip(*of, strict=True)]


def test_offsets_and_gradients_are_held_against_the_dense_hessian(made):
    at = made(lb.RNC(0.5, seed=1))
    pairs = exact(at)
    clean = [p.detach().clone() for p in at.model.parameters()]
    offsets = []
    for worker in range(M):
        with at.workers.at(worker):
            now = [p.detach() - was for p, was in zip(at.model.parameters(), clean, strict=True)]
        offsets.append(now)
    found, gradients = step(at)
    for said, rows in ((found.offsets, stacked(offsets)), (found.gradients, stacked(gradients))):
        wanted = alignment(rows, pairs, draws=1000, seed=7)
        for name in ("top_share", "noise_share", "eigenvalues", "top_isotropic_high"):
            assert getattr(said, name) == pytest.approx(getattr(wanted, name), rel=1e-6, abs=1e-9)
    assert found.offsets.top_share != pytest.approx(found.gradients.top_share, rel=0.01)
    assert found.examples == FEW


@pytest.mark.parametrize("perturb", [None, lb.GNC(0.1)])
def test_workers_that_look_at_the_same_weights_have_no_offsets(made, perturb):
    # GNC has nothing to look by before its first step.
    found, _ = step(made(perturb))
    assert found.offsets is None
    assert found.gradients.top_share > found.gradients.top_isotropic_high


def test_a_run_that_diverges_says_nothing_and_goes_on(made):
    at = made(None)
    with torch.no_grad():
        at.model.weight.fill_(float("inf"))
    found, _ = step(at)
    assert asdict(found) == {"offsets": None, "gradients": None, "examples": FEW}
