"""Eigen-noise: its covariance, length and span, against dense eigenvectors."""

import math

import pytest
import torch

import largebatch as lb
from largebatch.contracts import Point

RHO, K, N = 0.3, 3, 20_000
SHAPES = [(2, 3), (4,), ()]
VALUES = torch.tensor([-8.0, 5.0, 3.0, 1.0, 0.5, -0.2, 0.1, 0.05, 0.02, 0.01, 0.0])


def problem():
    """Weights of eleven numbers, a quadratic loss on them and its Hessian's eigenvectors."""
    source = torch.Generator().manual_seed(4)
    basis = torch.linalg.qr(torch.randn(11, 11, generator=source, dtype=torch.float64))[0]
    hessian = basis @ torch.diag(VALUES.double()) @ basis.T
    weights = [
        torch.randn(s, generator=source, dtype=torch.float64).requires_grad_() for s in SHAPES
    ]

    def loss():
        w = flat(weights)
        return w @ hessian @ w / 2

    return weights, loss, basis


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def point_at(step, weights, shown):
    return Point(step, [w.detach() for w in weights], lambda kind: [0.1] * 3, shown=shown)


def test_covariance_is_that_of_the_shares_of_the_eigenvalues():
    # Red: eigenvalues in place of magnitudes (NaN), or squared; a vector's length not 1; one draw
    # for all parameters of a vector forgotten; norms fixed in place of root mean square.
    weights, loss, basis = problem()
    method = lb.EigenNoise(RHO, K, seed=2)
    shown = method.refresh(loss, weights, 0)
    draws = torch.stack(
        [flat(method.offsets(point_at(step, weights, shown), 0, None)) for step in range(N)]
    )
    sizes = VALUES.double().abs()[:K]
    shares = sizes / sizes.sum()
    expected = RHO**2 * sum(s * torch.outer(v, v) for s, v in zip(shares, basis.T, strict=False))
    assert draws.mean(0).norm() < 4 * RHO / math.sqrt(N)
    covariance = draws.T @ draws / N
    assert (covariance - expected).abs().max() < 5 * RHO**2 * math.sqrt(2 / N)
    square = draws.square().sum(1)
    spread = RHO**2 * math.sqrt(2 * shares.square().sum().item() / N)
    assert abs(square.mean() - RHO**2) < 4 * spread
    # Normal along each: the fourth moment is 3, a fixed length's would be smaller.
    along = draws @ basis[:, :K] / (RHO * shares.sqrt())
    assert (along.pow(4).mean(0) - 3).abs().max() < 5 * math.sqrt(96 / N)
    rest = draws @ basis[:, K:]
    assert rest.abs().max() < 1e-9


def test_seed_step_and_worker_name_the_draw():
    weights, loss, _ = problem()
    shown = lb.EigenNoise(RHO, K).refresh(loss, weights, 0)

    def draw(seed=0, step=0, worker=0):
        method = lb.EigenNoise(RHO, K, seed)
        return flat(method.offsets(point_at(step, weights, shown), worker, None))

    assert torch.equal(draw(), draw())
    for other in ({"seed": 1}, {"step": 1}, {"worker": 1}):
        assert not torch.equal(draw(), draw(**other)), other


@pytest.mark.parametrize("method", ["exact", "differences"])
def test_in_training_it_looks_along_the_hessian_of_what_it_was_shown(
    method, network, batches, loss_of
):
    model = network()
    workers = lb.Workers(
        model, torch.optim.SGD(model.parameters(), lr=0.3), lb.EigenNoise(RHO, 2, method=method)
    )
    first, second = batches(2, 8)
    workers.backward(loss_of(model), *first)
    assert workers.offset_to_weight_norm == 0  # nothing before the first refresh
    assert workers.refreshes
    workers.refresh(loss_of(model), *first)

    leaves = list(model.parameters())
    grads = torch.autograd.grad(loss_of(model)(*first), leaves, create_graph=True)
    rows = [torch.autograd.grad(g, leaves, retain_graph=True) for g in flat(grads)]
    values, vectors = torch.linalg.eigh(torch.stack([flat(row) for row in rows]))
    top = vectors[:, values.abs().argsort(descending=True)[:2]]
    clean = flat([p.detach().clone() for p in leaves])
    with workers.next():
        offset = flat([p.detach().clone() for p in leaves]) - clean
        loss_of(model)(*second).backward()
    assert 0.05 * RHO < offset.norm() < 4 * RHO
    # Fourteen products have not converged to the last digit; any other direction is 0.99 outside.
    assert (offset - top @ (top.T @ offset)).norm() < 0.25 * offset.norm()


class Once(torch.autograd.Function):
    """Squares, but not to be differentiated twice."""

    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return w.square()

    @staticmethod
    def backward(ctx, g):
        if torch.is_grad_enabled():
            raise RuntimeError("no second backward here")
        (w,) = ctx.saved_tensors
        return 2 * w * g


def test_differences_serve_what_has_no_second_backward():
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([1.0, 4.0, 2.0, -8.0], dtype=torch.float64)

    def loss():
        return (Once.apply(w).square() * scale).sum() / 12  # sum of scale*w^4/12

    with pytest.raises(RuntimeError, match="no second backward here"):
        lb.EigenNoise(RHO, 2).refresh(loss, [w], 0)
    values, _ = lb.EigenNoise(RHO, 2, method="differences").refresh(loss, [w], 0)
    assert values.tolist() == pytest.approx([-8, 4], rel=1e-6)


def test_each_refresh_starts_from_a_vector_of_its_own():
    # Red: one start for ever, so that what it misses once it always misses.
    weights, loss, _ = problem()
    first, again, later = (lb.EigenNoise(RHO, 1).refresh(loss, weights, t)[1] for t in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_a_flat_loss_gives_no_offset_and_no_nan():
    weights, _, _ = problem()
    method = lb.EigenNoise(RHO, 2)
    shown = method.refresh(lambda: flat(weights).sum(), weights, 0)
    assert (flat(method.offsets(point_at(0, weights, shown), 0, None)) == 0).all()


def test_says_that_parameters_have_come_or_gone(network, batches, loss_of):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.3), lb.EigenNoise(RHO, 2))
    [batch] = batches(1, 4)
    workers.refresh(loss_of(model), *batch)
    model[0].weight.requires_grad_(False)
    message = r"eigenvectors of 4 parameters, .* now \(3\): call workers.refresh"
    with pytest.raises(ValueError, match=message):
        workers.backward(loss_of(model), *batch)
    workers.refresh(loss_of(model), *batch)
    workers.backward(loss_of(model), *batch)
    assert workers.offset_to_weight_norm > 0


@pytest.mark.parametrize("method", ["exact", "differences"])
def test_within_autocast_only_the_loss_is_rounded(method, network, batches, loss_of):
    # Red: vectors in bfloat16, which do not even multiply with the draw.
    [batch], found, seen = batches(1, 4, torch.float32), [], []
    for around in (False, True):
        model = network(torch.float32)

        def loss(model=model):
            seen.append(torch.is_autocast_enabled("cpu"))
            with torch.autocast("cpu", enabled=False):
                return loss_of(model)(*batch)

        weights, noise = list(model.parameters()), lb.EigenNoise(RHO, 2, method=method)
        with torch.autocast("cpu", torch.bfloat16, enabled=around):
            shown = noise.refresh(loss, weights, 0)
            found.append(noise.offsets(point_at(0, weights, shown), 0, None))
    assert seen == [False] * (len(seen) // 2) + [True] * (len(seen) // 2)
    assert flat(found[0]).norm() > 0.01
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_refuses_arguments():
    with pytest.raises(ValueError, match="EigenNoise needs 0 <= rho"):
        lb.EigenNoise(-1)
    for k in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"a whole k of at least 1, got k={k}"):
            lb.EigenNoise(1, k)
    with pytest.raises(ValueError, match="method='exact' or 'differences', got 'other'"):
        lb.EigenNoise(1, method="other")
    with pytest.raises(ValueError, match="seed of 64 signed bits"):
        lb.EigenNoise(1, seed=2**63)
