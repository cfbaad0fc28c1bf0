"""The cosine of the full data's gradient and another, against linear regression's closed form."""

import math

import pytest
import torch
from torch import nn

from largebatch.probes import cosine_between, gradient, gradient_cosine


def regression():
    torch.manual_seed(0)
    model = nn.Linear(5, 2, dtype=torch.float64)
    x, y = torch.randn(64, 5, dtype=torch.float64), torch.randn(64, 2, dtype=torch.float64)
    return model, lambda x, y: (model(x) - y).pow(2).mean(), (x, y)


def closed_form(model, x, y):
    error = (x @ model.weight.T + model.bias - y).detach()
    return [2 * error.T @ x / error.numel(), 2 * error.sum(0) / error.numel()]


@pytest.mark.parametrize("chunk", [None, 1, 10, 64, 100])
def test_gradient_is_the_closed_form_however_it_is_cut(chunk):
    # Red: chunks that count alike though the last is shorter.
    model, loss, batch = regression()
    found = gradient(model, loss, batch, chunk=chunk)
    for own, exact in zip(found, closed_form(model, *batch), strict=True):
        torch.testing.assert_close(own, exact, rtol=1e-12, atol=1e-14)


def test_cosines_are_those_of_all_layers_and_of_each():
    model, loss, (x, y) = regression()
    large = closed_form(model, x[:7], y[:7])
    found = gradient_cosine(model, loss, (x, y), large, chunk=10)
    full = closed_form(model, x, y)

    def cosine(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    flat = [torch.cat([g.flatten() for g in each]) for each in (full, large)]
    assert found.cosine == pytest.approx(cosine(*flat), rel=1e-12)
    each = [cosine(a.flatten(), b.flatten()) for a, b in zip(full, large, strict=True)]
    assert found.layer_cosines == pytest.approx(each, rel=1e-12)
    assert found.layers == ["weight", "bias"]


def test_halves_are_multiplied_in_double():
    # Red: squares of 1e-4 are lost in float16, whose least number is 6e-8.
    a, b = torch.tensor([1e-4, 1e-4]).half(), torch.tensor([1e-4, 0.0]).half()
    assert cosine_between(["w"], [a], [b]).cosine == pytest.approx(math.sqrt(0.5), abs=1e-6)


def test_a_zero_gradient_has_no_cosine():
    zero, one = torch.zeros(2), torch.ones(2)
    found = cosine_between(["a", "b"], [zero, one], [one, one])
    assert math.isnan(found.layer_cosines[0])
    assert found.cosine == pytest.approx(math.sqrt(0.5))


def test_other_shapes_and_no_examples_are_refused():
    with pytest.raises(ValueError, match="a cosine needs two gradients of the same layers"):
        cosine_between(["w"], [torch.ones(3, 1)], [torch.ones(1, 3)])
    with pytest.raises(ValueError, match="a cosine needs two gradients of the same layers"):
        cosine_between(["a", "b"], [torch.ones(3)], [torch.ones(3)])
    model, loss, (x, y) = regression()
    with pytest.raises(ValueError, match="a probe needs a batch of at least one example"):
        gradient_cosine(model, loss, (x[:0], y[:0]), closed_form(model, x, y))
