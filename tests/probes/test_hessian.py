"""Eigenvalues, trace and diagonal against dense Hessians in float64, by either backend."""

import importlib
import importlib.util
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from largebatch.probes import alignment, eigenpairs, hessian

HERE = importlib.util.find_spec("curvlinops") is not None
BACKENDS = [
    "torch",
    pytest.param("curvlinops", marks=pytest.mark.skipif(not HERE, reason="no curvlinops")),
]


def dense(model, loss_of, x, y):
    """The Hessian over the parameters in training."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in named.values()]

    def loss(flat):
        parts = [a.view_as(p) for a, p in zip(flat.split(sizes), named.values(), strict=True)]
        swapped = dict(zip(named, parts, strict=True))
        call = lambda x: functional_call(model, swapped, (x,))  # noqa: E731
        return loss_of(call)(x, y)

    point = torch.cat([p.detach().flatten() for p in named.values()])
    return torch.autograd.functional.hessian(loss, point), sizes


@pytest.fixture
def problem(network, batches, loss_of):
    model = network()
    [(x, y)] = batches(1, 12)
    matrix, sizes = dense(model, loss_of, x, y)
    return model, loss_of(model), (x, y), matrix, sizes


@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_is_the_dense_hessian(backend, chunk, problem):
    # Red: chunks of unequal length weighed alike, the largest instead of the largest in magnitude,
    # a trace or diagonal of another matrix.
    model, loss, batch, matrix, sizes = problem
    options = {"k": 4, "tolerance": 1e-9, "samples": 48, "chunk": chunk}
    if backend == "torch":
        options |= {"iterations": 96, "samples": 80 if chunk else 800}
    found = hessian(model, loss, batch, backend=backend, **options)
    values = torch.linalg.eigvalsh(matrix)
    expected = values[values.abs().argsort(descending=True)[:4]]
    assert found.eigenvalues == pytest.approx(expected.tolist(), rel=1e-7)
    assert max(found.residuals) < 1e-6
    trace = float(matrix.trace())
    assert abs(found.trace - trace) < 4 * found.trace_error + 1e-9
    assert found.trace_error < 0.3 * abs(trace)
    assert found.layers == [name for name, _ in model.named_parameters()]
    diagonal = [float(part.abs().mean()) for part in matrix.diagonal().split(sizes)]
    bound = {"rel": 0.15} if options["samples"] == 800 else {"abs": 0.03}
    assert found.diagonal_mean_magnitude == pytest.approx(diagonal, **bound)
    assert found.products > options["samples"]


def test_the_trace_has_no_bias_and_the_error_that_it_says():
    # Red: the eigenvectors' part counted twice or not taken out, theta^2, an error of one sample.
    torch.manual_seed(3)
    root = torch.randn(10, 10, dtype=torch.float64)
    matrix = root @ root.T / 10 + 3 * torch.ones(10, 10, dtype=torch.float64)
    holder = nn.ParameterList([nn.Parameter(torch.zeros(10, dtype=torch.float64))])
    [w] = holder

    def loss(x):
        return w @ matrix @ w / 2 * x.mean()

    found = [
        # Far from converged, on purpose: two products.
        hessian(holder, loss, (torch.ones(1),), k=2, iterations=2, block=1, samples=4, seed=seed)
        for seed in range(300)
    ]
    traces = torch.tensor([each.trace for each in found])
    said = torch.tensor([each.trace_error for each in found]).square().mean().sqrt()
    spread = traces.std()
    assert max(found[0].residuals) > 0.1
    assert abs(traces.mean() - matrix.trace()) < 4 * spread / 300**0.5
    assert said == pytest.approx(float(spread), rel=0.2)
    plain = (2 * (matrix - matrix.diagonal().diag()).square().sum() / 4).sqrt()
    assert spread < 0.5 * plain  # what Hutchinson's has without the top taken out


def test_the_diagonal_of_a_diagonal_hessian_is_exact():
    scale = torch.tensor([5.0, -3.0, 2.0, 0.5], dtype=torch.float64)
    holder = nn.ParameterList([nn.Parameter(torch.zeros(4, dtype=torch.float64))])
    found = hessian(
        holder, lambda x: (scale * holder[0] ** 2).sum() / 2 * x.mean(), (torch.ones(1),),
        k=1, samples=1,
    )  # fmt: skip
    assert found.diagonal_mean_magnitude == pytest.approx([10.5 / 4], abs=1e-6)
    assert found.trace == pytest.approx(4.5, abs=1e-6)
    assert math.isnan(found.trace_error)


class Counts(nn.Module):
    """Counts how often a backward pass comes through."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.passes = inner, 0

    def forward(self, x):
        out = self.inner(x)
        if out.requires_grad:
            out.register_hook(self.passed)
        return out

    def passed(self, gradient):
        self.passes += 1


def test_costs_what_it_says(network, batches, loss_of):
    # Red: more products than said, a graph made anew for each.
    [(x, y)] = batches(1, 12)
    calls = []
    model = network()

    def loss(x, y):
        calls.append(len(x))
        return loss_of(model)(x, y)

    found = hessian(model, loss, (x, y), k=2, iterations=9, tolerance=0.0, samples=3)
    assert (found.products, calls) == (12, [12])
    calls.clear()
    found = hessian(model, loss, (x, y), k=2, iterations=9, tolerance=0.0, samples=3, chunk=6)
    assert (found.products, calls) == (12, [6] * 24)
    counts = Counts(network())
    hessian(counts, loss_of(counts), (x, y), k=2, iterations=9, tolerance=0.0, samples=3)
    assert counts.passes == 1 + 12  # the gradient, and a backward pass through it each


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.linear, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.drop(self.linear(self.norm(x)).tanh()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [True, False])
def test_leaves_all_as_it_was(backend, training):
    # Red: running statistics, the global generator, p.grad, modes.
    model = Dropping().double()
    x, y = torch.randn(16, 3, dtype=torch.float64), torch.randint(2, (16,))
    loss = lambda x, y: nn.functional.cross_entropy(model(x), y)  # noqa: E731
    loss(x, y).backward()
    model.train(training)
    model.linear.bias.requires_grad_(False)

    def everything():
        state = {k: v.clone() for k, v in model.state_dict().items()}
        state |= {f"{n} grad": p.grad.clone() for n, p in model.named_parameters()}
        modes = [(m.training, getattr(m, "track_running_stats", 0)) for m in model.modules()]
        return state, torch.get_rng_state(), modes, [p.requires_grad for p in model.parameters()]

    held = [p.grad for p in model.parameters()]
    before = everything()
    found = hessian(model, loss, (x, y), k=2, samples=8, backend=backend)
    again = hessian(model, loss, (x, y), k=2, samples=8, backend=backend)
    assert found == again
    after = everything()
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    assert torch.equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert all(a is p.grad for a, p in zip(held, model.parameters(), strict=True))
    assert "linear.bias" not in found.layers


@pytest.mark.skipif(not HERE, reason="no curvlinops")
def test_both_backends_agree_with_batch_norm_in_training():
    # Red: batch norm by its running statistics, or not differentiated through.
    model = Dropping().double()
    model.drop.eval()
    x, y = torch.randn(16, 3, dtype=torch.float64), torch.randint(2, (16,))
    loss = lambda x, y: nn.functional.cross_entropy(model(x), y)  # noqa: E731
    ours, theirs = (
        hessian(model, loss, (x, y), k=3, samples=16, tolerance=1e-10, backend=backend)
        for backend in ("torch", "curvlinops")
    )
    assert ours.eigenvalues == pytest.approx(theirs.eigenvalues, rel=1e-8)
    # The same draws, so nothing is left to chance.
    assert ours.trace == pytest.approx(theirs.trace, rel=1e-6)
    assert ours.trace_error == pytest.approx(theirs.trace_error, rel=1e-4)


def test_pairs_are_what_alignment_takes(problem):
    model, loss, batch, matrix, sizes = problem
    pairs = eigenpairs(model, loss, batch, 3, tolerance=1e-8, iterations=96, chunk=4)
    rows = torch.cat([v.reshape(3, -1) for v in pairs.vectors], dim=1)
    residual = rows @ matrix - pairs.values[:, None] * rows
    assert residual.norm() < 1e-6
    noise = [torch.randn(8, *p.shape) for p in model.parameters()]
    assert alignment(noise, pairs).size == sum(sizes)


def test_differences_where_there_is_no_second_backward(problem):
    model, loss, batch, _, _ = problem
    exact, near = (
        hessian(model, loss, batch, k=3, method=method, tolerance=1e-6, iterations=60)
        for method in ("exact", "differences")
    )
    assert near.eigenvalues == pytest.approx(exact.eigenvalues, rel=1e-5)
    assert near.trace == pytest.approx(exact.trace, rel=1e-5)


def test_refuses_by_name(problem, monkeypatch):
    model, loss, batch, _, _ = problem
    for options, said in (
        ({"samples": 0}, "samples >= 1 and a backend of 'torch' or 'curvlinops', got samples=0"),
        ({"backend": "jax"}, "got samples=20, backend='jax'"),
        ({"chunk": 0}, "a chunk needs at least one example, got chunk=0"),
        ({"k": 0}, "1 <= k <= iterations and parameters, got k=0"),
        ({"backend": "curvlinops", "block": 2}, "by k, tolerance, samples, chunk and seed alone"),
    ):
        with pytest.raises(ValueError, match=said):
            hessian(model, loss, batch, **options)
    import_module = importlib.import_module

    def missing(name):
        if name == "curvlinops":
            raise ModuleNotFoundError("No module named 'curvlinops'", name=name)
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"needs curvlinops: pip install 'largebatch\[cu"):
        hessian(model, loss, batch, backend="curvlinops")


@pytest.mark.skipif(not HERE, reason="no curvlinops")
def test_refuses_what_curvlinops_cannot(problem):
    model, loss, batch, _, _ = problem
    with pytest.raises(ValueError, match=r"needs 1 <= k < parameters, got k=96 of 96"):
        hessian(model, loss, batch, backend="curvlinops", k=96)
