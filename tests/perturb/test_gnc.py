"""GNC against METHODS.md's equations, written out with loops in float64."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import largebatch as lb

Weights = dict[str, Tensor]


def width(weight: Tensor, scaling: str) -> Tensor:
    """c: the norm of each filter, 1 for plain, 0 for what filter-wise versions leave alone."""
    c = torch.ones_like(weight)
    if scaling == "filter":
        for p in range(weight.shape[0]):
            c[p] = math.sqrt(float((weight[p] ** 2).sum())) if weight.ndim > 1 else 0.0
    return c


class SGD:
    """u <- beta u + g, w <- w - eta u."""

    def __init__(self, beta: float = 0.9) -> None:
        self.beta, self.u, self.scales = beta, {}, {}

    def step(self, w: Weights, g: Weights, eta: float) -> Weights:
        for n in w:
            self.u[n] = self.beta * self.u.get(n, 0.0) + g[n]
        return {n: w[n] - eta * self.u[n] for n in w}


class SNGM(SGD):
    """u <- beta u + s g, s = 1/||g|| over everything."""

    def step(self, w: Weights, g: Weights, eta: float) -> Weights:
        s = 1 / math.sqrt(sum(float((g[n] ** 2).sum()) for n in g))
        self.scales = dict.fromkeys(w, s)
        return super().step(w, {n: s * g[n] for n in g}, eta)


class LARS(SGD):
    """u <- beta u + eta s g, w <- w - u, s = tau ||w||/||g||; 1 for what has one dimension."""

    def step(self, w: Weights, g: Weights, eta: float) -> Weights:
        for n in w:
            ratio = 0.01 * float(w[n].norm()) / float(g[n].norm())
            self.scales[n] = ratio if w[n].ndim > 1 else 1.0
            self.u[n] = self.beta * self.u.get(n, 0.0) + eta * self.scales[n] * g[n]
        return {n: w[n] - self.u[n] for n in w}


def reference(model, data, rates, alpha, scaling, count, rule, rate="global") -> Weights:
    w = {n: p.detach().clone() for n, p in model.named_parameters()}
    omega = [{n: torch.zeros_like(w[n]) for n in w} for _ in range(count)]
    for (x, y), eta in zip(data, rates, strict=True):
        found, b = [], len(x) // count
        for i in range(count):
            s = rule.scales if rate == "layer" else {}
            at = {
                n: w[n] - alpha * eta * s.get(n, 1.0) * width(w[n], scaling) * omega[i][n]
                for n in w
            }
            leaves = {n: v.requires_grad_() for n, v in at.items()}
            out = functional_call(model, leaves, x[i * b : (i + 1) * b])
            loss = nn.functional.cross_entropy(out, y[i * b : (i + 1) * b])
            grads = torch.autograd.grad(loss, list(leaves.values()))
            found.append(dict(zip(leaves, grads, strict=True)))
        g = {n: sum(each[n] for each in found) / count for n in w}
        omega = [{n: each[n] - g[n] for n in w} for each in found]
        w = rule.step(w, g, eta)
    return w


CASES = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9), SGD, "global"),
    "sgd without momentum": (lambda p: torch.optim.SGD(p, lr=1.0), lambda: SGD(0.0), "global"),
    "sngm": (lambda p: lb.SNGM(p, lr=1.0, momentum=0.9), SNGM, "global"),
    "sngm, layer": (lambda p: lb.SNGM(p, lr=1.0, momentum=0.9), SNGM, "layer"),
    "lars": (lambda p: lb.LARS(p, trust_coefficient=0.01), LARS, "layer"),
    "lars, global": (lambda p: lb.LARS(p, trust_coefficient=0.01), LARS, "global"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scaling", ["filter", "plain"])
@pytest.mark.parametrize("count", [2, 5])
def test_follows_the_equations(case, scaling, count, network, batches, loss_of):
    make, rule, rate = CASES[case]
    data = batches(6, 10)
    rates = [0.3, 0.3, 0.1, 0.2, 0.05, 0.3]
    expected = reference(network(), data, rates, 0.7, scaling, count, rule(), rate)

    model = network()
    optimizer = make(model.parameters())
    # None takes what METHODS.md decides: "layer" under layer-wise optimizers.
    asked = None if case in ("sgd", "sngm", "lars") else rate
    workers = lb.Workers(model, optimizer, lb.GNC(0.7, scaling, asked), count=count)
    for (x, y), eta in zip(data, rates, strict=True):
        optimizer.param_groups[0]["lr"] = eta
        workers.backward(loss_of(model), x, y)
        optimizer.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name], rtol=1e-10, atol=1e-12)


def test_differs_from_plain_training_so_that_the_oracle_can_fail(network, batches):
    runs = [
        reference(network(), batches(3, 8), [0.3] * 3, alpha, "filter", 2, SGD())
        for alpha in (0.0, 0.7)
    ]
    assert all((runs[0][n] - runs[1][n]).abs().max() > 1e-4 for n in runs[0])


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_each_group_has_its_own_rate(lr, network, batches, loss_of):
    model = network()
    first, second = model[0], model[3]
    groups = [{"params": first.parameters(), "lr": lr}, {"params": second.parameters(), "lr": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    workers = lb.Workers(model, optimizer, lb.GNC(0.1), count=2)
    data = batches(2, 4)
    workers.backward(loss_of(model), *data[0])
    before = [first.weight.detach().clone(), second.weight.detach().clone()]
    with workers.next():
        assert not torch.equal(first.weight, before[0])
        assert torch.equal(second.weight, before[1])
        loss_of(model)(*data[1]).backward()


def test_filter_wise_leaves_one_dimensional_parameters_and_plain_moves_them(
    network, batches, loss_of
):
    for scaling, moved in (("filter", False), ("plain", True)):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        workers = lb.Workers(model, optimizer, lb.GNC(0.5, scaling), count=2)
        (x, y), *_ = batches(1, 4)
        workers.backward(loss_of(model), x, y)
        bias = model[0].bias.detach().clone()
        with workers.next():
            assert torch.equal(model[0].bias, bias) is not moved
            loss_of(model)(x, y).backward()


def test_looks_from_the_clean_weights_at_the_first_step(network, batches, loss_of):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=1.0), lb.GNC(9.0), count=2)
    clean = [p.detach().clone() for p in model.parameters()]
    with workers.next():
        assert all(torch.equal(p, c) for p, c in zip(model.parameters(), clean, strict=True))
        loss_of(model)(*batches(1, 4)[0]).backward()
    assert workers.offset_to_weight_norm == 0


def test_layer_rate_needs_an_optimizer_that_publishes_its_scale(network, batches, loss_of):
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    workers = lb.Workers(model, optimizer, lb.GNC(0.1, rate="layer"), count=2)
    workers.backward(loss_of(model), *batches(1, 4)[0])
    with pytest.raises(ValueError, match=r"rate='layer' needs an optimizer .* Adam does not"):
        workers.backward(loss_of(model), *batches(1, 4)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -0.1}, r"GNC needs 0 <= alpha < infinity, got alpha=-0.1"),
        ({"alpha": math.nan}, r"got alpha=nan"),
        ({"alpha": math.inf}, r"got alpha=inf"),
        ({"alpha": 0.1, "scaling": "layer"}, r"scaling='filter' or 'plain', got 'layer'"),
        ({"alpha": 0.1, "rate": "filter"}, r"rate='global', 'layer' or None, got 'filter'"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lb.GNC(**arguments)
