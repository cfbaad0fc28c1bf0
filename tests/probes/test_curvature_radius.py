"""Hessians that are known: parabolas along every weight, and a regression's."""

import math

import pytest
import torch
from torch import nn

from largebatch.probes import curvature_radius
from largebatch.probes.diagonals import Estimate, _drawn, gradient_and_diagonal


def parabola(model):
    """Of each row of x a parabola along every weight: h = 2*mean(x), g = h*w."""
    return lambda x: (x * model.a.square()).sum(1).mean()


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("looked_at", [64, None])
def test_a_parabola_along_every_weight(weights, looked_at, chunk):
    w = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=torch.float64)
    model = weights(a=w)
    x = torch.tensor([[1.0, 2, 3, 4], [3, -4, 5, 6], [2, 3, 4, 5]], dtype=torch.float64)
    h = 2 * x.mean(0)
    radii = (1 + (h * w) ** 2) ** 1.5 / h.abs()
    found = curvature_radius(
        model, parabola(model), (x,), weights=looked_at, samples=1, chunk=chunk
    )
    assert found.layers == ["a"]
    assert found.mean_radius == [pytest.approx(float(radii.mean()))]
    assert found.spread == [pytest.approx(float(radii.std(correction=0)))]
    assert found.median == [pytest.approx(float(radii.median()))]
    assert (found.straight, found.weights) == ([0.0], [4])
    assert found.products == (1 if looked_at is None else 4)


def regression():
    """A model, a loss, the data, and the radii that follow from H = mean of x x^T."""
    torch.manual_seed(2)
    x = torch.randn(50, 6, dtype=torch.float64) @ (torch.eye(6) + 0.3).double()
    y = torch.randn(50, 1, dtype=torch.float64)
    model = nn.Linear(6, 1, bias=False).double()
    g = ((model(x) - y) * x).mean(0).detach()
    radii = (1 + g**2) ** 1.5 / x.square().mean(0)
    return model, lambda x, y: (model(x) - y).square().mean() / 2, (x, y), radii


def test_drawn_weights_of_one_layer_are_without_error():
    model, loss, batch, radii = regression()
    found = curvature_radius(model, loss, batch)
    assert found.mean_radius == [pytest.approx(float(radii.mean()))]
    assert found.median == [pytest.approx(float(radii.median()))]
    some = {curvature_radius(model, loss, batch, weights=1, seed=s).median[0] for s in range(40)}
    assert sorted(some) == pytest.approx(radii.sort().values.tolist())  # each is drawn some time


def test_hutchinsons_needs_many_samples():
    model, loss, batch, radii = regression()
    # The estimate's error is sqrt(sum of squares off the diagonal / samples): 2% of h here.
    found = curvature_radius(model, loss, batch, weights=None, samples=4000)
    assert found.mean_radius == [pytest.approx(float(radii.mean()), rel=0.03)]
    few = curvature_radius(model, loss, batch, weights=None, samples=1)
    assert few.mean_radius != [pytest.approx(float(radii.mean()), rel=0.03)]


def test_diagonals_of_several_layers_have_no_bias(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss_of(model)(*batch), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])
    rows = [torch.autograd.grad(each, parameters, retain_graph=True) for each in flat]
    whole = torch.stack([torch.cat([r.flatten() for r in row]) for row in rows]).diagonal()
    dense = whole.split([p.numel() for p in parameters])
    sums = [[torch.zeros_like(h), torch.zeros_like(h)] for h in dense]
    for seed in range(150):
        estimate = Estimate(weights=3, samples=1, seed=seed, method="exact")
        found = gradient_and_diagonal(model, loss_of(model), batch, estimate, chunk=None)
        places = [_drawn(p, estimate, layer) for layer, p in enumerate(parameters)]
        for (_, h), at, (total, count) in zip(found, places, sums, strict=True):
            total[at] += h.detach()
            count[at] += 1
    for (total, count), h in zip(sums, dense, strict=True):
        # One draw errs by about h; each weight was drawn 8 times or more.
        error = total / count - h
        assert float(error.mean()) == pytest.approx(0, abs=0.05 * float(h.abs().mean()))
        assert float(error.square().mean()) < 0.1 * float(h.square().mean())


def test_the_estimate_does_not_depend_on_the_chunks(network, batches, loss_of, passes):
    model, (batch,) = network(), batches(1, 12)
    for options, products in (({"weights": 20}, 20), ({"weights": None, "samples": 3}, 3)):
        passes.backward = 0
        whole = curvature_radius(model, loss_of(model), batch, **options)
        assert passes.backward == 2 + products  # two gradients, and the products
        assert whole.products == products
        chunked = curvature_radius(model, loss_of(model), batch, chunk=5, **options)
        assert passes.backward == (2 + products) * (1 + 3)
        torch.testing.assert_close(chunked.median, whole.median)
        assert curvature_radius(model, loss_of(model), batch, seed=1, **options) != whole
    passes.backward = 0
    options = {"weights": None, "samples": 3, "method": "differences"}
    by_differences = curvature_radius(model, loss_of(model), batch, **options)
    assert passes.backward == 1 + 2 * 3
    torch.testing.assert_close(by_differences.median, whole.median, rtol=1e-5, atol=0)


def test_memory_formats_do_not_matter(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    found = curvature_radius(model, loss_of(model), batch, weights=5)
    last = model.to(memory_format=torch.channels_last)
    assert not last[0].weight.is_contiguous()
    again = curvature_radius(last, loss_of(last), batch, weights=5)
    torch.testing.assert_close(again.mean_radius, found.mean_radius)


def test_layers_of_their_own(weights):
    model = weights(a=torch.zeros(3), b=torch.zeros(2))
    look = lambda x: x.mean() * (model.a.square().sum() + 5 * model.b.square().sum())  # noqa: E731
    found = curvature_radius(model, look, (torch.ones(4, dtype=torch.float64),))
    assert found.mean_radius == [pytest.approx(0.5), pytest.approx(0.1)]
    assert found.layers == ["a", "b"]


def test_straight_weights_are_left_out_and_told_of_or_damped(weights):
    model = weights(a=torch.tensor([1.0, 1.0, 0.0, 3.0]), b=torch.ones(2))
    x = torch.tensor([[1.0, 0.0, 2.0, 0.0]], dtype=torch.float64)
    found = curvature_radius(model, parabola(model), (x,))
    assert found.straight == [0.5, 1.0]
    expected = [(1 + 4) ** 1.5 / 2, 1 / 4]
    assert found.mean_radius[0] == pytest.approx(sum(expected) / 2)
    assert all(math.isnan(each[1]) for each in (found.mean_radius, found.spread, found.median))
    damped = curvature_radius(model, parabola(model), (x,), damping=2.0)
    assert damped.straight == [0.0, 0.0]
    expected = [(1 + 4) ** 1.5 / 4, 1 / 2, 1 / 6, 1 / 2]
    assert damped.mean_radius == [pytest.approx(sum(expected) / 4), pytest.approx(0.5)]


def test_nan_stays_nan(weights):
    model = weights(a=torch.tensor([1.0, 1.0]))
    found = curvature_radius(model, parabola(model), (torch.tensor([[math.nan, 1.0]]),))
    assert all(math.isnan(each[0]) for each in (found.mean_radius, found.spread, found.median))
    assert found.straight == [0.0]


def test_refuses(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    with pytest.raises(ValueError, match="a damping of 0 or more, got damping=-1"):
        curvature_radius(model, loss_of(model), batch, damping=-1)
    with pytest.raises(ValueError, match="whole number of samples from 1, got 0"):
        curvature_radius(model, loss_of(model), batch, weights=None, samples=0)
    with pytest.raises(ValueError, match="got weights=0: give None for all"):
        curvature_radius(model, loss_of(model), batch, weights=0)
    with pytest.raises(
        ValueError, match="drawn weights by more than their size: give weights=None"
    ):
        curvature_radius(model, loss_of(model), batch, method="differences")
