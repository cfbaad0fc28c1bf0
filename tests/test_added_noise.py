"""When noise joins: before clipping, or after each optimizer's step, and at no other time."""

import copy
import gc
import pickle
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.contracts import GradientNoise, Placement


@dataclass(frozen=True)
class Steps(GradientNoise):
    """A noise that can be foreseen: 1 + step, times the scale."""

    placement: Placement = "weights"

    def add(self, tensors, step, scale):
        for tensor in tensors:
            if tensor is not None:
                tensor.add_((1.0 + step) * scale)


def linear(**options):
    torch.manual_seed(1)
    model = nn.Linear(3, 2).double()
    return model, torch.optim.SGD(model.parameters(), lr=0.5, **options)


def noise_of(noise, model, step):
    found = [torch.zeros_like(p) for p in model.parameters()]
    noise.add(found, step, 1.0)
    return [t.detach() for t in found]


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


X = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def loss_of(model):
    return lambda x: model(x).square().mean()


@pytest.mark.parametrize("placement", ["gradient", "weights"])
def test_momentum_sgd_by_hand(placement):
    # Red: noise inside where it is outside of momentum, rate and clipping; a step's number off.
    noise = lb.AnnealedNoise(0.3, seed=4, placement=placement)
    model, optimizer = linear(momentum=0.9)
    workers = lb.Workers(model, optimizer, count=2, gradient_noise=noise)
    twin = copy.deepcopy(model)
    weights = list(twin.parameters())
    buffers = [torch.zeros_like(w) for w in weights]
    for step in range(5):
        workers.backward(loss_of(model), X)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        optimizer.param_groups[0]["lr"] = rate = 0.5 / (1 + step)
        optimizer.step()

        gradients = torch.autograd.grad(loss_of(twin)(X), weights)
        sigma = [0.3 / (1 + step) ** 0.55 * s for s in unit(noise, twin, step)]
        if placement == "gradient":
            gradients = [g + s for g, s in zip(gradients, sigma, strict=True)]
        total = torch.cat([g.flatten() for g in gradients]).norm()
        torch.testing.assert_close(norm, total)
        with torch.no_grad():
            for w, g, u, s in zip(weights, gradients, buffers, sigma, strict=True):
                u.mul_(0.9).add_(g * min(1.0, 0.2 / (total + 1e-6)))
                w.sub_(rate * u)
                if placement == "weights":
                    w.add_(s)
        for p, w in zip(model.parameters(), weights, strict=True):
            torch.testing.assert_close(p, w)


def unit(noise, model, step):
    """The standard normal numbers behind a step's noise."""
    return [n / noise.deviation(step) for n in noise_of(noise, model, step)]


@pytest.mark.parametrize("fused", [None, True], ids=["for each", "fused"])
@pytest.mark.parametrize("placement", ["gradient", "weights"])
def test_a_step_that_overflows_changes_nothing(placement, fused):
    # Red: a fused optimizer's step runs even so, and with it the hook.
    model, optimizer = linear(fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    workers = lb.Workers(model, optimizer, count=2, scaler=scaler, gradient_noise=Steps(placement))
    kept = bits(model)
    bad = X.clone()
    bad[0] = torch.inf
    workers.backward(loss_of(model), bad)
    assert not any(p.grad.isfinite().all() for p in model.parameters())
    scaler.step(optimizer)
    scaler.update()
    assert same(bits(model), kept)
    # The next step's noise is its own: 2, though no noise was added before.
    workers.backward(lambda x: model(x).sum() * 0.0, X)
    scaler.step(optimizer)
    expected = -0.5 * 2 if placement == "gradient" else 2
    for p, k in zip(model.parameters(), kept, strict=True):
        torch.testing.assert_close(p.detach(), k + expected)


@pytest.mark.parametrize("placement", ["gradient", "weights"])
def test_noise_on_gradients_is_in_p_grad_and_noise_on_weights_is_not(placement):
    model, optimizer = linear()
    workers = lb.Workers(model, optimizer, count=2, gradient_noise=Steps(placement))
    kept = bits(model)
    workers.backward(loss_of(model), X)
    plain = torch.autograd.grad(loss_of(model)(X), list(model.parameters()))
    for p, g in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(p.grad, g + (placement == "gradient"))
    assert same(bits(model), kept)


def test_each_optimizers_step_adds_to_its_own_parameters():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    both = [torch.optim.SGD(part.parameters(), lr=0.0) for part in model]
    workers = lb.Workers(model, both, count=2, gradient_noise=Steps())
    for step in range(2):
        kept = bits(model)
        workers.backward(loss_of(model), X)
        both[1].step()
        assert same(bits(model[0]), kept[:2])
        assert same(bits(model[1]), [k + 1.0 + step for k in kept[2:]])
        both[0].step()
        assert same(bits(model), [k + 1.0 + step for k in kept])


def test_one_optimizer_of_two_overflows():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    both = [torch.optim.SGD(part.parameters(), lr=0.0, fused=True) for part in model]
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    workers = lb.Workers(model, both, count=2, scaler=scaler, gradient_noise=Steps())
    kept = bits(model)
    workers.backward(loss_of(model), X)
    model[1].weight.grad[0, 0] = torch.inf
    for each in both:
        scaler.step(each)
    assert same(bits(model[0]), [k + 1.0 for k in kept[:2]])
    assert same(bits(model[1]), kept[2:])


def test_only_the_step_after_combine_adds():
    model, optimizer = linear()
    optimizer.param_groups[0]["lr"] = 0.0
    workers = lb.Workers(model, optimizer, count=2, gradient_noise=Steps())
    kept = bits(model)
    optimizer.step()
    assert same(bits(model), kept)
    workers.backward(loss_of(model), X)
    optimizer.step()
    optimizer.step()
    assert same(bits(model), [k + 1.0 for k in kept])
    workers.backward(loss_of(model), X)
    workers.load_state_dict(workers.state_dict())
    optimizer.step()
    assert same(bits(model), [k + 1.0 for k in kept])


def test_noise_of_a_step_that_was_skipped_is_gone_with_the_next_worker():
    model, optimizer = linear()
    workers = lb.Workers(model, optimizer, gradient_noise=Steps())
    workers.backward(loss_of(model), X)  # and no step, as where a scaler leaves it out
    with workers.next():
        loss_of(model)(X).backward()
    before, gradients = bits(model), [p.grad for p in model.parameters()]
    assert gradients == [None, None]  # the worker's own, which combine has not left there yet
    model.weight.grad, model.bias.grad = (torch.zeros_like(p) for p in model.parameters())
    optimizer.step()
    assert same(bits(model), before)


def test_a_closure_counts_as_the_step_that_it_combines():
    model, optimizer = linear()
    optimizer.param_groups[0]["lr"] = 0.0
    workers = lb.Workers(model, optimizer, count=2, gradient_noise=Steps())
    kept = bits(model)
    for _ in range(2):
        optimizer.step(lambda: workers.backward(loss_of(model), X))
    assert same(bits(model), [k + 3.0 for k in kept])


@pytest.mark.parametrize("alive", [True, False])
def test_two_workers_in_a_row_add_one_noise(alive):
    model, optimizer = linear()
    optimizer.param_groups[0]["lr"] = 0.0
    first = lb.Workers(model, optimizer, count=2, gradient_noise=Steps())
    first.backward(loss_of(model), X)
    optimizer.step()
    kept = bits(model)
    if not alive:
        del first
    second = lb.Workers(model, optimizer, count=2, gradient_noise=Steps())
    second.load_state_dict({**second.state_dict(), "step": 6})
    second.backward(loss_of(model), X)
    optimizer.step()
    assert same(bits(model), [k + 7.0 for k in kept])


def test_a_hook_keeps_nothing_alive_and_goes_with_its_workers():
    model, optimizer = linear()
    workers = lb.Workers(model, optimizer, count=2, gradient_noise=Steps())
    workers.backward(loss_of(model), X)
    seen = weakref.ref(workers), weakref.ref(workers._passes)
    assert len(optimizer._optimizer_step_post_hooks) == 1
    del workers
    gc.collect()
    assert [ref() for ref in seen] == [None, None]
    assert len(optimizer._optimizer_step_post_hooks) == 0
    kept = bits(model)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert same(bits(model), kept)


def test_noise_on_gradients_hangs_nothing_on_the_optimizer():
    model, optimizer = linear()
    workers = lb.Workers(model, optimizer, gradient_noise=lb.AnnealedNoise(0.1))
    assert len(optimizer._optimizer_step_post_hooks) == 0
    assert workers.step == 0


def test_the_optimizer_is_copied_and_pickled_without_its_hook():
    model, optimizer = linear()
    workers = lb.Workers(model, optimizer, gradient_noise=Steps())
    workers.backward(loss_of(model), X)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        weight = twin.param_groups[0]["params"][0]
        kept = weight.detach().clone()
        twin.param_groups[0]["lr"] = 0.0
        twin.step()
        assert torch.equal(weight, kept)


def test_a_parameter_without_gradient_gets_no_noise():
    # Red: noise on a weight that the optimizer does not step, for ever.
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)]).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    workers = lb.Workers(model, optimizer, gradient_noise=Steps())
    kept = bits(model)
    workers.backward(lambda x: model[1](x).sum(), X)
    optimizer.step()
    assert same(bits(model), [*kept[:2], *(k + 1.0 for k in kept[2:])])


def test_a_compiled_step_adds_the_same():
    found = []
    for compiled in (False, True):
        model, optimizer = linear()
        noise = lb.AnnealedNoise(0.3, placement="weights")
        workers = lb.Workers(model, optimizer, count=2, gradient_noise=noise)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(3):
            workers.backward(loss_of(model), X)
            step()
        found.append(bits(model))
    assert same(*found)
