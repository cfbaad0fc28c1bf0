"""Averages of steps: what they are, what they are worth, and that they go on."""

import pytest
import torch

from largebatch.probes.averages import Averages


def added(decay, values, counts=None):
    averages = Averages(decay)
    for value, each in zip(values, counts or [True] * len(values), strict=True):
        averages.add(torch.tensor(each), {"x": torch.tensor(value)})
    return averages


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_by_the_equation(decay):
    values = [3.0, -1.0, 2.0, 7.0]
    weights = [decay ** (3 - t) if t < 3 else 1.0 for t in range(4)]
    averages = added(decay, values)
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert float(averages.mean("x")) == pytest.approx(mean)
    assert averages.worth == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert averages.steps == 4


def test_a_step_that_does_not_count_leaves_all_as_it_was():
    some = added(0.5, [1.0, float("nan"), 4.0, float("inf")], [True, False, True, False])
    whole = added(0.5, [1.0, 4.0])
    assert (some.steps, some.worth, some.mean("x")) == (2, whole.worth, whole.mean("x"))
    assert not some.empty
    assert Averages(0.5).empty
    assert Averages(0.5).steps == 0
