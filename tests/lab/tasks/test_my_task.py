"""The example of a user's own task, found as a user would and trained."""

import sys
from pathlib import Path

import pytest
import torch

from largebatch.lab.tasks import resolve, split

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[("examples", "my_task:task"), (".", "examples.my_task:task")])
def example(request, monkeypatch):
    folder, name = request.param
    monkeypatch.chdir(ROOT / folder)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.delitem(sys.modules, "examples", raising=False)
    yield resolve(name)
    for module in ("my_task", "examples.my_task", "examples"):
        sys.modules.pop(module, None)


def test_it_is_short():
    assert len((ROOT / "examples" / "my_task.py").read_text().splitlines()) < 40


def test_it_trains(example):
    view = split(example.load(None), "validation", validation=example.validation)
    assert len(view.train[0]) >= max(example.batch_sizes)
    torch.manual_seed(0)
    model = example.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(100):
        optimizer.zero_grad()
        example.loss(model(view.train[0]), view.train[1]).backward()
        optimizer.step()
    assert example.score(model(view.held_out[0]), view.held_out[1]).mean() > 85
