"""Eigenpairs against dense Hessians in float64."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from largebatch.curvature import eigenpairs_of, top_eigenpairs


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def rows_of(found):
    """The k vectors, one a row."""
    return torch.cat([v.reshape(len(found.values), -1) for v in found.vectors], dim=1)


def quadratic(values, shapes=((3, 4), (5,), ()), dtype=torch.float64):
    """Weights and a loss on them whose Hessian has these eigenvalues, and the dense Hessian."""
    size = len(values)
    source = torch.Generator().manual_seed(6)
    basis = torch.linalg.qr(torch.randn(size, size, generator=source, dtype=torch.float64))[0]
    hessian = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
    weights = [torch.randn(s, generator=source, dtype=torch.float64).to(dtype) for s in shapes]
    weights = [w.requires_grad_() for w in weights]
    assert flat(weights).numel() == size
    cast = hessian.to(dtype)
    return weights, lambda: flat(weights) @ cast @ flat(weights) / 2, hessian


SPECTRUM = [9.0, -7.0, 5.0, -4.0, 2.0, 1.0, 0.7, 0.5, -0.4, 0.3, 0.2, 0.1, 0.1, 0.05, 0.0, 0.0,
            -0.01, 0.02]  # fmt: skip


def check(found, hessian, k, rtol=1e-9):
    """The k largest in magnitude, orthonormal vectors, each an eigenvector."""
    dense = torch.linalg.eigvalsh(hessian)
    expected = dense[dense.abs().argsort(descending=True)[:k]]
    scale = dense.abs().max().item()
    assert found.values.shape == found.residuals.shape == (k,)
    torch.testing.assert_close(
        found.values.double().sort().values, expected.sort().values, rtol=0, atol=rtol * scale
    )
    sizes = found.values.abs()
    assert (sizes[:-1] >= sizes[1:] - 10 * rtol * scale).all()
    rows = rows_of(found).double()
    eye = torch.eye(k, dtype=torch.float64)
    torch.testing.assert_close(rows @ rows.T, eye, rtol=0, atol=10 * rtol)
    errors = (rows @ hessian - found.values.double()[:, None] * rows).norm(dim=1)
    assert (errors < 100 * rtol * scale).all()


@pytest.mark.parametrize("method", ["exact", "differences"])
@pytest.mark.parametrize("k", [1, 4, 18])
def test_finds_the_largest_in_magnitude_of_either_sign(k, method):
    # Red: the largest instead of the largest in magnitude, signs lost, vectors cut wrongly.
    weights, loss, hessian = quadratic(SPECTRUM)
    found = top_eigenpairs(loss, weights, k, iterations=18, method=method)
    check(found, hessian, k, 1e-9 if method == "exact" else 1e-7)
    assert [v.shape for v in found.vectors] == [(k, 3, 4), (k, 5), (k,)]
    assert [v.dtype for v in found.vectors] == [torch.float64] * 3
    assert not found.values.requires_grad
    assert not any(v.requires_grad for v in found.vectors)


def test_all_of_them_with_iterations_of_its_own_choice():
    weights, loss, hessian = quadratic(SPECTRUM)
    check(top_eigenpairs(loss, weights, 18), hessian, 18)


@pytest.mark.parametrize(
    "values",
    [
        [3.0] * 3 + [-2.0] * 2 + [0.5] * 13,
        [5.0] * 18,
        [4.0, -4.0] * 2 + [1.0] * 14,
        [2.0, 1.0] + [0.0] * 16,
    ],
    ids=["multiple", "all alike", "either sign", "low rank"],
)
def test_finds_every_copy_once_the_space_is_exhausted(values):
    # Red: a breakdown that ends the search, divides by zero, or leaves vectors that are not
    # orthogonal: Lanczos from one vector alone sees one vector of each eigenvalue.
    weights, loss, hessian = quadratic(values)
    for k in (4, 5):
        check(top_eigenpairs(loss, weights, k, iterations=18), hessian, k)


def test_a_breakdown_costs_no_more_products_than_iterations():
    calls = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            return w.clone()

        @staticmethod
        def backward(ctx, g):
            calls.append(g)
            return g

    weights = [torch.randn(18, dtype=torch.float64, requires_grad=True)]
    scale = torch.tensor([5.0, 3.0] + [0.0] * 16, dtype=torch.float64)
    found = top_eigenpairs(
        lambda: (scale * Counted.apply(weights[0]) ** 2).sum() / 2, weights, 2, iterations=7
    )
    torch.testing.assert_close(found.values, torch.tensor([5.0, 3.0], dtype=torch.float64))
    assert len(calls) == 1 + 7  # the gradient, then a product each


def test_residuals_are_the_distance_from_an_eigenvector():
    # Red: the recursion's last coefficient alone, a norm of something else, squares.
    weights, loss, hessian = quadratic(SPECTRUM)
    found = top_eigenpairs(loss, weights, 4, iterations=7)
    rows = rows_of(found)
    expected = (rows @ hessian - found.values[:, None] * rows).norm(dim=1)
    assert expected[-1] > 1e-2  # not converged, on purpose
    torch.testing.assert_close(found.residuals, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        (rows @ hessian * rows).sum(1), found.values, rtol=1e-9, atol=1e-12
    )  # Rayleigh quotients
    torch.testing.assert_close(rows @ rows.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_extreme_ones_converge_long_before_the_rest():
    torch.manual_seed(0)
    values = [50.0, -30.0, 20.0, *torch.linspace(-1, 1, 297).tolist()]
    weights, loss, hessian = quadratic(values, ((20, 15),))
    check(top_eigenpairs(loss, weights, 3), hessian, 3, 1e-6)


def test_float32_stays_orthogonal_over_many_iterations():
    # Red: no reorthogonalization: ghosts, copies of 50, appear after some thirty.
    values = [50.0, -30.0, 20.0, *torch.linspace(-1, 1, 297).tolist()]
    weights, loss, _hessian = quadratic(values, ((20, 15),), torch.float32)
    found = top_eigenpairs(loss, weights, 5, iterations=120)
    assert found.values.dtype == torch.float32
    assert found.values[:3].tolist() == pytest.approx([50, -30, 20], rel=1e-5)
    assert (found.values[3:].abs() < 1.01).all()
    rows = rows_of(found)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5), rtol=0, atol=1e-5)


class Tied(nn.Module):
    """One matrix used twice, a bias, a frozen factor and a parameter that no loss depends on."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.factor = nn.Parameter(torch.tensor(1.5, dtype=torch.float64), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x):
        return (torch.tanh(x @ self.matrix) @ self.matrix.T * self.factor + self.bias).pow(3).sum()


def test_tied_frozen_and_unused_parameters():
    torch.manual_seed(3)
    model, x = Tied(), torch.randn(5, 3, dtype=torch.float64)
    named = dict(model.named_parameters())

    def loss(point):
        parts = point.split([p.numel() for p in named.values()])
        cut = {n: part.view_as(p) for (n, p), part in zip(named.items(), parts, strict=True)}
        return functional_call(model, cut, (x,))

    hessian = torch.autograd.functional.hessian(loss, flat([p.detach() for p in named.values()]))
    frozen = 12 + 3  # the place of the factor
    hessian[frozen] = 0.0
    hessian[:, frozen] = 0.0
    found = top_eigenpairs(lambda: model(x), list(named.values()), 6, iterations=18)
    assert (found.values < 0).any()
    check(found, hessian, 6)
    for vector in found.vectors[2:]:  # nothing bends along them
        assert vector.abs().max() < 1e-9
    assert all(p.grad is None for p in named.values())


def test_leaves_weights_gradients_and_the_global_generator_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    x, kept = torch.randn(6, 3), [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    first = top_eigenpairs(lambda: model(x).square().mean(), list(model.parameters()), 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, k) for p, k in zip(model.parameters(), kept, strict=True))
    assert all(p.grad is None for p in model.parameters())
    again = top_eigenpairs(lambda: model(x).square().mean(), list(model.parameters()), 2)
    assert torch.equal(first.values, again.values)


@pytest.mark.parametrize("name", ["seed", "step"])
def test_seed_and_step_name_the_first_vector(name):
    weights, loss, _ = quadratic(SPECTRUM)
    one, same, other = (
        top_eigenpairs(loss, weights, 2, iterations=3, **{name: value}).values
        for value in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("k", "iterations"), [(0, None), (19, None), (4, 3)])
def test_refuses_more_than_there_are(k, iterations):
    weights, loss, _ = quadratic(SPECTRUM)
    with pytest.raises(ValueError, match=f"1 <= k <= iterations and parameters, got k={k} of"):
        top_eigenpairs(loss, weights, k, iterations=iterations)


def test_refuses_a_loss_that_is_not_finite():
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="products are not finite"):
        top_eigenpairs(lambda: (w.square() * float("nan")).sum(), [w], 1)


def counted(hessian):
    """Products with a dense matrix, and how many there were."""
    calls = []

    def product(vectors):
        calls.append(1)
        return [(hessian @ vectors[0]).to(vectors[0].dtype)]

    return product, calls


CLUSTERED = [10.0, 10.0, 10.0, -8.0, 5.0, *torch.linspace(-1, 1, 195).tolist()]


def test_a_block_finds_an_eigenvalue_as_often_as_it_occurs():
    # Red: one vector to start from, which sees one of the three.
    weights, _, hessian = quadratic(CLUSTERED, ((200,),))
    product, _ = counted(hessian)
    alone = eigenpairs_of(product, weights, 5, iterations=30)
    assert (alone.values > 9.9).sum() < 3  # the second came with rounding
    found = eigenpairs_of(product, weights, 5, iterations=30, block=3)
    check(found, hessian, 5, 1e-6)


def test_ends_once_all_that_were_asked_for_have_converged():
    # Red: all iterations spent; or ended by the first one's residual.
    weights, _, hessian = quadratic([50.0, -30.0, 20.0, *torch.linspace(-1, 1, 197)], ((200,),))
    product, calls = counted(hessian)
    found = eigenpairs_of(product, weights, 3, iterations=100, tolerance=1e-6)
    assert len(calls) < 25
    assert (found.residuals <= 1e-6 * 50).all()
    check(found, hessian, 3, 1e-6)
    calls.clear()
    eigenpairs_of(product, weights, 10, iterations=40, tolerance=1e-12)
    assert len(calls) == 40  # those within the rest do not converge by then


def test_a_tolerance_changes_nothing_but_the_number_of_products():
    weights, _, hessian = quadratic(SPECTRUM)
    product = lambda v: split(hessian @ flat(v))  # noqa: E731
    split = lambda h: [h[:12].view(3, 4), h[12:17], h[17]]  # noqa: E731
    stopped = eigenpairs_of(product, weights, 2, iterations=18, tolerance=0.0)
    spent = eigenpairs_of(product, weights, 2, iterations=18)
    torch.testing.assert_close(stopped.values, spent.values, rtol=0, atol=0)


@pytest.mark.parametrize("block", [0, 7])
def test_refuses_a_block_that_does_not_fit(block):
    weights, _, hessian = quadratic(SPECTRUM)
    with pytest.raises(ValueError, match=f"1 <= block <= iterations and.*got block={block} of 6"):
        eigenpairs_of(counted(hessian)[0], weights, 2, iterations=6, block=block)
