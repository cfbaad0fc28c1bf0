"""CLARS against its equation, fed by workers and by separate small batches."""

import copy

import pytest
import torch

import largebatch as lb
from largebatch.optim import CLARS


def oracle(weights, worker_gradients, rates, form, cap=0.1, tau=0.001, beta=0.9, decay=0.1):
    """The equation; worker_gradients[step][parameter] holds one gradient a worker."""
    ws, us = [w.clone() for w in weights], [torch.zeros_like(w) for w in weights]
    for step, eta in zip(worker_gradients, rates, strict=True):
        for k, gs in enumerate(step):
            g = torch.stack(gs).mean(0)
            n = torch.stack([each.norm() for each in gs]).mean()
            scaled = ws[k].ndim > 1
            s = min(float(tau * ws[k].norm() / n), cap) if scaled else 1.0
            h = g + (decay if scaled else 0.0) * ws[k]
            if form == "buffer":
                us[k] = beta * us[k] + h
                ws[k] = ws[k] - eta * s * us[k]
            elif form == "gradient":
                us[k] = beta * us[k] + s * h
                ws[k] = ws[k] - eta * us[k]
            else:
                us[k] = beta * us[k] + eta * s * h
                ws[k] = ws[k] - us[k]
    return ws


def problem(workers=3, steps=5):
    torch.manual_seed(0)
    shapes = [(3, 4), (4,), (2, 3, 2, 2)]
    weights = [torch.randn(s, dtype=torch.float64) for s in shapes]
    gradients = [
        [[torch.randn_like(w) for _ in range(workers)] for w in weights] for _ in range(steps)
    ]
    return weights, gradients, [1.0 + 0.5 * (step % 3) for step in range(steps)]


def step_told(optimizer, parameters, step):
    for worker in range(len(step[0])):
        seen = [gs[worker] for gs in step]
        optimizer.saw(worker, parameters[:1], seen[:1], factor=1.0, weight=1.0)  # in two pieces
        optimizer.saw(worker, parameters[1:], seen[1:], factor=1.0, weight=1.0)
    for parameter, gs in zip(parameters, step, strict=True):
        parameter.grad = torch.stack(gs).mean(0)
    optimizer.combined([p.grad for p in parameters], factor=1.0)
    optimizer.step()


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("form", ["buffer", "gradient", "velocity"])
def test_follows_its_equation(form, fused):
    # Red: the combined gradient's norm, a sum for the mean, the cap left out, forms swapped.
    weights, gradients, rates = problem()
    parameters = [torch.nn.Parameter(w.clone()) for w in weights]
    optimizer = CLARS(parameters, weight_decay=0.1, form=form, fused=fused, cap=0.001)
    for step, eta in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = eta
        step_told(optimizer, parameters, step)
    expected = oracle(weights, gradients, rates, form, cap=0.001)
    for found, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=1e-12)
    capped = [optimizer.state[p]["scale"].item() for p in parameters if p.ndim > 1]
    assert 0.001 in capped  # the cap was tried
    assert any(scale < 0.001 for scale in capped)


def fitted(count, reduction="mean", scaler=None, **options):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 3, dtype=torch.float64), torch.nn.Linear(3, 2, dtype=torch.float64)
    )
    optimizer = CLARS(model.parameters(), lr=10.0, **options)
    workers = lb.Workers(model, optimizer, count=count, reduction=reduction, scaler=scaler)
    return model, optimizer, workers


def test_workers_tell_it_their_own_norms():
    # Red: norms of the mean, or of gradients that still carry the loss scale.
    model, optimizer, workers = fitted(4)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    norms = []
    for xi, yi in zip(x.chunk(4), y.chunk(4), strict=True):
        (model(xi) - yi).square().mean().backward()
        norms.append([p.grad.norm() for p in model.parameters()])
        model.zero_grad()
    workers.backward(lambda x, y: (model(x) - y).square().mean(), x, y)
    for k, parameter in enumerate(model.parameters()):
        mean = torch.stack([each[k] for each in norms]).mean()
        torch.testing.assert_close(optimizer.state[parameter]["gradient_norm"], mean)
        assert mean > parameter.grad.norm()


def test_a_loss_scale_and_a_sum_change_nothing():
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    ends = []
    for reduction, share in (("mean", 1.0), ("sum", 0.25)):
        for scaler in (None, torch.amp.GradScaler("cpu", init_scale=64.0)):
            model, optimizer, workers = fitted(4, reduction, scaler)
            workers.backward(lambda x, y, m=model, s=share: s * (m(x) - y).square().mean(), x, y)
            optimizer.step() if scaler is None else scaler.step(optimizer)
            ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-12)


def test_weights_of_workers_count():
    parameter = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimizer = CLARS([parameter])
    for worker, (size, weight) in enumerate([(1.0, 3.0), (5.0, 1.0)]):
        gradient = torch.full_like(parameter, size / 2)
        optimizer.saw(worker, [parameter], [gradient], factor=2.0, weight=weight)
    optimizer.combined([None], factor=1.0)
    assert optimizer.state[parameter]["gradient_norm"].item() == pytest.approx(2 * (3 + 5) / 4)


def test_workers_of_a_forgotten_step_do_not_count():
    model, optimizer, workers = fitted(2)
    x, y = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)

    def loss(x, y):
        return (model(x) - y).square().mean()

    shard = next(workers.shards(100 * x, y))
    with workers.next():
        loss(*shard).backward()
    workers.backward(loss, x, y)  # begins anew
    found = [optimizer.state[p]["gradient_norm"] for p in model.parameters()]
    clean, other, again = fitted(2)
    again.backward(lambda x, y: (clean(x) - y).square().mean(), x, y)
    wanted = [other.state[p]["gradient_norm"] for p in clean.parameters()]
    torch.testing.assert_close(found, wanted)


def test_separate_small_batches_in_any_loop():
    model, optimizer, workers = fitted(1, norms="batches", batches=4)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)

    def loss(x, y):
        return (model(x) - y).square().mean()

    assert workers.refreshes
    workers.refresh(loss, x, y)
    assert all(p.grad is None for p in model.parameters())
    pairs = list(zip(x.chunk(4), y.chunk(4), strict=True))
    for parameter in model.parameters():
        norms = [torch.autograd.grad(loss(*pair), parameter)[0].norm() for pair in pairs]
        found = optimizer.state[parameter]["gradient_norm"]
        torch.testing.assert_close(found, torch.stack(norms).mean())
    kept = [optimizer.state[p]["gradient_norm"].clone() for p in model.parameters()]
    workers.backward(loss, x, y)
    optimizer.step()
    after = [optimizer.state[p]["gradient_norm"] for p in model.parameters()]
    torch.testing.assert_close(after, kept)  # a step's own workers are not what was asked for


@pytest.mark.parametrize(
    ("norms", "message"),
    [("workers", r"heard no worker's gradient.*Workers\("), ("batches", r"call optimizer.refresh")],
)
def test_without_norms_it_says_what_to_do(norms, message):
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    parameter.grad = torch.ones(2, 2)
    with pytest.raises(RuntimeError, match=message):
        CLARS([parameter], norms=norms).step()
    torch.testing.assert_close(parameter.detach(), torch.ones(2, 2))


def test_a_batch_that_cannot_be_shared_out_is_refused():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = CLARS([parameter], norms="batches", batches=4)
    with pytest.raises(ValueError, match=r"batches=4 small batches cannot be made of \[3\]"):
        optimizer.refresh(lambda x: (x @ parameter).sum(), torch.ones(3, 2))
    with pytest.raises(TypeError, match="needs tensors to share out, got list"):
        optimizer.refresh(lambda x: x, [1, 2, 3, 4])


def test_norms_serve_one_step():
    # Red: a loop that leaves Workers and goes on by the norms of long ago.
    model, optimizer, workers = fitted(2)
    x, y = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    workers.backward(lambda x, y: (model(x) - y).square().mean(), x, y)
    optimizer.step()
    (model(x) - y).square().mean().backward()
    with pytest.raises(RuntimeError, match="heard no worker's gradient"):
        optimizer.step()


def test_a_short_group_is_its_own_mean():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = CLARS([parameter])
    for workers in (4, 2):
        for worker in range(workers):
            gradient = torch.full((2, 2), float(worker))
            optimizer.saw(worker, [parameter], [gradient], factor=1.0, weight=1.0)
        optimizer.combined([None], factor=1.0)
    assert optimizer.state[parameter]["gradient_norm"].item() == pytest.approx(1.0)


def test_zero_weights_move_by_the_cap_and_eps_counts():
    zero, other = (torch.nn.Parameter(torch.full((2, 2), v)) for v in (0.0, 1.0))
    optimizer = CLARS([zero, other], trust_coefficient=1.0, cap=0.1, eps=30.0)
    for parameter in (zero, other):
        parameter.grad = torch.ones(2, 2)
    optimizer.saw(0, [zero, other], [zero.grad, other.grad], factor=1.0, weight=1.0)
    optimizer.combined([None, None], factor=1.0)
    optimizer.step()
    assert optimizer.state[zero]["scale"].item() == pytest.approx(0.1)
    assert optimizer.state[other]["scale"].item() == pytest.approx(2 / 32)


def test_groups_may_take_their_norms_from_different_places():
    by_workers, by_batches = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    groups = [
        {"params": [by_workers], "batches": 64},
        {"params": [by_batches], "norms": "batches", "batches": 4},
    ]
    optimizer = CLARS(groups)
    assert optimizer.refreshes
    optimizer.refresh(lambda x: (x @ (by_workers + by_batches)).sum(), torch.ones(16, 2))
    assert "gradient_norm" in optimizer.state[by_batches]
    assert "gradient_norm" not in optimizer.state.get(by_workers, {})
    assert not CLARS([torch.nn.Parameter(torch.ones(2))]).refreshes


def test_refreshing_for_nothing_is_refused_and_leaves_the_random_state():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.raises(RuntimeError, match="make it with norms='batches'"):
        CLARS([parameter]).refresh(lambda x: x.sum(), torch.ones(8, 2))
    optimizer = CLARS([parameter], norms="batches")
    before = torch.get_rng_state()
    optimizer.refresh(lambda x: torch.nn.functional.dropout(x @ parameter).sum(), torch.ones(8, 2))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="without a graph"):
        optimizer.refresh(lambda x: x.sum(), torch.ones(8, 2))


def test_a_copy_has_heard_nothing_of_the_step_that_runs():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = CLARS([parameter])
    optimizer.saw(0, [parameter], [torch.full((2, 2), 50.0)], factor=1.0, weight=1.0)
    other = copy.deepcopy(optimizer)
    [mine] = other.param_groups[0]["params"]
    other.saw(0, [mine], [torch.ones(2, 2)], factor=1.0, weight=1.0)
    other.combined([None], factor=1.0)
    assert other.state[mine]["gradient_norm"].item() == pytest.approx(2.0)
