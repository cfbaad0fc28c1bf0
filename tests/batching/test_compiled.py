"""A compiled optimizer step under a schedule: what is filled in place is not compiled anew."""

import logging

import pytest
import torch
from torch.optim import lr_scheduler as torchs

from largebatch.batching import BatchSizeSchedule, Stages

dynamo = pytest.importorskip("torch._dynamo")
GROWING = Stages({step: 8 * (step + 1) for step in range(6)}, "steps")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    # torch says there that it traces no profiler records, once for each compilation.
    monkeypatch.setattr(logging.getLogger("torch._dynamo"), "disabled", True)
    dynamo.reset()
    dynamo.utils.counters.clear()
    yield
    dynamo.reset()


def graphs_and_weights(make, course, compiled, wrap=True, **options):
    """Graphs compiled up to each step, and the weights in the end."""
    dynamo.utils.counters.clear()
    weight = torch.nn.Parameter(torch.linspace(1, 2, 6).reshape(2, 3))
    optimizer = make([weight], **options)
    decay = torchs.ExponentialLR(optimizer, 0.9) if wrap else None
    schedule = BatchSizeSchedule(optimizer, course, base_batch=8, scheduler=decay)
    step = optimizer.step
    if compiled:
        step = torch.compile(lambda: optimizer.step(), backend="aot_eager")
    graphs = []
    for i in range(6):
        weight.grad = torch.full_like(weight, 1.0 + i)
        step()
        schedule.step()
        graphs.append(dynamo.utils.counters["stats"]["unique_graphs"])
    return graphs, weight.detach()


def sgd(parameters, tensors):
    return torch.optim.SGD(parameters, lr=torch.tensor(0.01) if tensors else 0.01)


def adamw(parameters, tensors):
    pack = torch.tensor if tensors else float
    return torch.optim.AdamW(
        parameters,
        lr=pack(0.01),
        betas=(pack(0.9), pack(0.99)),
        eps=pack(1e-6),
        weight_decay=0.0,
    )


@pytest.mark.parametrize("wrap", [False, True], ids=["alone", "around a scheduler"])
@pytest.mark.parametrize("make", [sgd, adamw], ids=lambda make: make.__name__)
def test_tensors_are_filled_and_nothing_is_compiled_anew(make, wrap):
    graphs, weight = graphs_and_weights(make, GROWING, True, wrap, tensors=True)
    assert graphs == graphs[:1] * 6 != [0] * 6
    _, plain = graphs_and_weights(make, GROWING, False, wrap, tensors=False)
    torch.testing.assert_close(weight, plain, rtol=1e-5, atol=1e-6)


def test_numbers_cost_a_compilation_a_value():
    graphs, _ = graphs_and_weights(adamw, GROWING, True, tensors=False)
    assert graphs[-1] == 6 * graphs[0]
    graphs, _ = graphs_and_weights(adamw, Stages({0: 8}, "steps"), True, False, tensors=False)
    assert graphs[-1] == graphs[0]
