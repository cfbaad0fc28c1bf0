"""Autocast, the gradient scaler, and weights of two bytes."""

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.contracts import GradientNoise


class Fixed(lb.Perturbation):
    """Moves worker i's weights by i + 1, so that a stale cast cannot be missed."""

    def offsets(self, point, worker, memory):
        return [torch.full_like(w, worker + 1.0) for w in point.weights]


def linear():
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_no_worker_runs_on_weights_that_another_had_cast():
    model, optimizer = linear()
    workers = lb.Workers(model, optimizer, Fixed(), count=3)
    x, seen = torch.ones(1, 2), []
    with torch.autocast("cpu", torch.bfloat16):  # around the loop: the cache lives on
        seen.append(model(x).item())
        for _ in range(3):
            with workers.next():
                out = model(x)
                seen.append(out.item())
                out.float().sum().backward()
            seen.append(model(x).item())
    assert seen == [2, 4, 2, 6, 2, 8, 2]


def test_trains_the_same_inside_one_autocast_and_one_for_each_worker(network, batches, loss_of):
    runs = []
    for around in (False, True):
        model = network(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        workers = lb.Workers(model, optimizer, lb.GNC(3.0), count=2)

        def fn(x, y, model=model):
            with torch.autocast("cpu", torch.bfloat16):
                return loss_of(model)(x, y)

        for x, y in batches(3, 8, torch.float32):
            with torch.autocast("cpu", torch.bfloat16, enabled=around):
                workers.backward(loss_of(model) if around else fn, x, y)
            optimizer.step()
        runs.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def train(scaler, network, batches, loss_of, scaling="filter", reduction="mean"):
    model = network(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    workers = lb.Workers(
        model, optimizer, lb.GNC(2.0, scaling), count=4, scaler=scaler, reduction=reduction
    )
    share = 1.0 if reduction == "mean" else 0.25
    losses = []
    for x, y in batches(4, 8, torch.float32):
        loss = workers.backward(lambda x, y, m=model: loss_of(m)(x, y) * share, x, y)
        losses.append(loss)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
    (noise,) = workers.state_dict()["slots"]
    return [p.detach() for p in model.parameters()], noise, losses


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("scale", [2.0**16, 2.0**-8])
def test_noise_and_loss_do_not_depend_on_the_loss_scale(
    scale, reduction, network, batches, loss_of
):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    weights, noise, losses = train(scaler, network, batches, loss_of, reduction=reduction)
    expected = train(None, network, batches, loss_of, reduction=reduction)
    torch.testing.assert_close(noise, expected[1], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(losses, expected[2])
    torch.testing.assert_close(weights, expected[0])
    assert noise.abs().max() > 1e-3


def test_a_disabled_scaler_changes_nothing(network, batches, loss_of):
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    found = train(scaler, network, batches, loss_of)
    expected = train(None, network, batches, loss_of)
    assert all(torch.equal(a, b) for a, b in zip(found[0], expected[0], strict=True))


def test_overflow_skips_the_step_and_leaves_no_infinity_in_the_noise(network, batches, loss_of):
    model = network(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    workers = lb.Workers(model, optimizer, lb.GNC(2.0, "plain"), count=2, scaler=scaler)
    data = batches(4, 4, torch.float32)
    workers.backward(loss_of(model), *data[0])
    scaler.step(optimizer)
    scaler.update()
    kept = [p.detach().clone() for p in model.parameters()]

    x, y = data[1]
    x = x.clone()
    x[0, 0, 0, 0] = float("inf")  # for the first worker; the second's gradient is finite
    workers.backward(loss_of(model), x, y)
    assert not all(p.grad.isfinite().all() for p in model.parameters())
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**7
    assert all(torch.equal(p, k) for p, k in zip(model.parameters(), kept, strict=True))
    (noise,) = workers.state_dict()["slots"]
    assert (noise == 0).all()

    for x, y in data[2:]:
        workers.backward(loss_of(model), x, y)
        scaler.step(optimizer)
        scaler.update()
    assert workers.offset_to_weight_norm > 0
    assert all(p.isfinite().all() for p in model.parameters())


def test_unscaled_gradients_are_the_mean(network, batches, loss_of):
    model, other = network(torch.float32), network(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    workers = lb.Workers(model, optimizer, count=2, scaler=scaler)
    (x, y), *_ = batches(1, 4, torch.float32)
    workers.backward(loss_of(model), x, y)
    scaler.unscale_(optimizer)
    loss_of(other)(x, y).backward()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


class Constant(GradientNoise):
    def add(self, gradients, step, scale):
        for g in gradients:
            g.add_(scale)


def test_gradient_noise_is_multiplied_by_the_loss_scale(network, batches, loss_of):
    found = []
    for noise in (None, Constant()):
        model = network(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6)
        workers = lb.Workers(model, optimizer, count=2, scaler=scaler, gradient_noise=noise)
        workers.backward(loss_of(model), *batches(1, 4, torch.float32)[0])
        scaler.unscale_(optimizer)
        found.append([p.grad for p in model.parameters()])
    for plain, noisy in zip(*found, strict=True):
        torch.testing.assert_close(noisy, plain + 1.0)


def test_bfloat16_weights_are_clean_to_the_bit(network, batches, loss_of):
    model = network(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, lb.GNC(9.0, "plain"), count=2, noise_dtype=torch.float32)
    for x, y in batches(3, 4, torch.bfloat16):
        kept = [p.detach().clone() for p in model.parameters()]
        workers.backward(loss_of(model), x, y)
        assert all(torch.equal(p, k) for p, k in zip(model.parameters(), kept, strict=True))
        optimizer.step()
    assert workers.offset_to_weight_norm > 1e-3
    (noise,) = workers.state_dict()["slots"]
    assert noise.dtype == torch.float32
