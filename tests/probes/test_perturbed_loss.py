"""The loss at places that are known, and at those where workers then look."""

import math
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.probes import perturbed_loss


@contextmanager
def offset(parameter, value):
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(value)
    yield
    with torch.no_grad():
        parameter.copy_(before)


def test_a_parabola_at_known_places(weights, passes):
    model = weights(a=torch.tensor([1.0, -1.0]))
    look = lambda x: (x @ model.a.square()).mean()  # noqa: E731
    x = torch.tensor([[1.0, 3.0], [3.0, 5.0], [2.0, 1.0]], dtype=torch.float64)
    places = [partial(offset, model.a, each) for each in (1.0, -2.0)]
    found = perturbed_loss(model, look, (x,), places, chunk=2)
    assert found.loss == pytest.approx(2 + 3)
    assert found.worker_losses == pytest.approx([2 * 4 + 3 * 0, 2 * 1 + 3 * 9])
    assert passes.backward == 0


def test_each_worker_looks_where_it_will_run(network, batches, loss_of):
    model, two = network(), batches(2, 12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.GNC(2.0), count=3)
    workers.backward(loss_of(model), *two[0])
    optimizer.step()
    places = [partial(workers.at, i) for i in range(3)]
    found = perturbed_loss(model, loss_of(model), two[1], places)
    ran = []
    for _ in range(3):
        with workers.next():
            loss = loss_of(model)(*two[1])
            loss.backward()
            ran.append(loss.item())
    assert found.worker_losses == ran
    assert len({found.loss, *ran}) == 4


def test_all_see_the_same_random_numbers(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    model.insert(2, nn.Dropout(0.5))
    found = perturbed_loss(
        model, loss_of(model), batch, [partial(offset, model[0].weight, 0.0)] * 2
    )
    assert found.worker_losses == [found.loss] * 2


def test_nan_stays_nan(weights):
    model = weights(a=torch.ones(1))
    places = [partial(offset, model.a, -3.0)]
    found = perturbed_loss(model, lambda x: (x * model.a).log().mean(), (torch.ones(2),), places)
    assert math.isnan(found.worker_losses[0])
    assert found.loss == 0.0


def test_refuses_no_places(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    with pytest.raises(
        ValueError, match=r"one worker's place, got none: give \[partial\(workers.at"
    ):
        perturbed_loss(model, loss_of(model), batch, [])
