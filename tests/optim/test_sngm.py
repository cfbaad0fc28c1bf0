"""SNGM against its equation, and what its one norm means."""

import pytest
import torch

from largebatch.optim import SNGM

SHAPES = [[(3, 4), (4,)], [(2, 3, 2, 2), ()]]
DECAYS = [0.3, 0.0]


def oracle(weights, gradients, rates, momentum, form):
    """The equation, on all groups as one vector; weights and gradients of a step are nested."""
    w = torch.cat([p.flatten() for group in weights for p in group])
    decays = zip(weights, DECAYS, strict=True)
    decay = torch.cat([torch.full_like(p.flatten(), d) for group, d in decays for p in group])
    u = torch.zeros_like(w)
    for step, eta in zip(gradients, rates, strict=True):
        h = torch.cat([g.flatten() for group in step for g in group]) + decay * w
        d = h / h.norm()
        if form == "gradient":
            u = momentum * u + d
            w = w - eta * u
        else:
            u = momentum * u + eta * d
            w = w - u
    return w


def random_problem(seed, steps=12):
    torch.manual_seed(seed)
    weights = [[torch.randn(s, dtype=torch.float64) for s in shapes] for shapes in SHAPES]
    gradients = [[[torch.randn_like(w) for w in g] for g in weights] for _ in range(steps)]
    return weights, gradients, [0.1 + 0.05 * (step % 5) for step in range(steps)]


def run(optimizer, gradients, rates):
    for step, eta in zip(gradients, rates, strict=True):
        for group, gs in zip(optimizer.param_groups, step, strict=True):
            group["lr"] = eta
            for parameter, gradient in zip(group["params"], gs, strict=True):
                parameter.grad = gradient.clone()
        optimizer.step()
    return torch.cat([p.detach().flatten() for g in optimizer.param_groups for p in g["params"]])


def grouped(weights):
    return [
        {"params": [torch.nn.Parameter(w.clone()) for w in group], "weight_decay": decay}
        for group, decay in zip(weights, DECAYS, strict=True)
    ]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", ["gradient", "velocity"])
@pytest.mark.parametrize("seed", range(3))
def test_follows_its_equation(seed, form, momentum, foreach):
    # Red: a norm over one group, decay outside the norm or of the wrong group, forms swapped.
    weights, gradients, rates = random_problem(seed)
    optimizer = SNGM(grouped(weights), momentum=momentum, form=form, foreach=foreach)
    found = run(optimizer, gradients, rates)
    torch.testing.assert_close(
        found, oracle(weights, gradients, rates, momentum, form), rtol=0, atol=1e-12
    )


def test_the_forms_differ_when_the_rate_changes_and_only_then():
    weights, gradients, rates = random_problem(0)
    ends = {
        form: [run(SNGM(grouped(weights), form=form), gradients, r) for r in (rates, [0.1] * 12)]
        for form in ("gradient", "velocity")
    }
    assert (ends["gradient"][0] - ends["velocity"][0]).abs().max() > 1e-3
    torch.testing.assert_close(ends["gradient"][1], ends["velocity"][1], rtol=0, atol=1e-12)


def test_the_document_s_form_is_the_default():
    weights, gradients, rates = random_problem(1)
    found = run(SNGM(grouped(weights)), gradients, rates)
    torch.testing.assert_close(found, oracle(weights, gradients, rates, 0.9, "gradient"))


def test_equals_torch_sgd_on_gradients_of_norm_one():
    # A gradient of norm 1 has scale 1: what is left is momentum SGD, written by others.
    ours, theirs = (torch.nn.Parameter(torch.ones(5, dtype=torch.float64)) for _ in range(2))
    optimizers = SNGM([ours], lr=0.1), torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    torch.manual_seed(0)
    for _ in range(10):
        gradient = torch.randn(5, dtype=torch.float64)
        ours.grad = theirs.grad = gradient / gradient.norm()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def test_momentum_is_bounded():
    """Lemma 2 of the document: ||u|| <= 1/(1 - beta), reached when all gradients agree."""
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = SNGM([weight], lr=0.1, momentum=0.9)
    for step in range(200):
        weight.grad = torch.full_like(weight, 10.0 ** (step % 7 - 3))
        optimizer.step()
        state = optimizer.state[weight]
        momentum = state["momentum_scale"] * state["momentum_buffer"]
        assert momentum.norm() <= 10 + 1e-12
    assert momentum.norm() > 9.99


def test_counter_example_of_the_document_reaches_the_optimum():
    """[10]: F = (x+1)^2/2 from 1 goes to -1 with a falling rate (LARS would stop at 0)."""
    x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = SNGM([x], momentum=0.0)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 400)
        x.grad = x.detach() + 1
        optimizer.step()
    assert abs(x.item() + 1) < 1e-3


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_without_a_gradient_momentum_goes_on_alone(weight_decay):
    # Red: weight decay alone becomes a step of full length; 1/0 makes a NaN.
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = SNGM([weight], lr=1.0, momentum=0.5, weight_decay=weight_decay)
    weight.grad = weight.detach().clone()
    optimizer.step()
    torch.testing.assert_close(weight.detach().norm().item(), 4.0)
    weight.grad.zero_()
    optimizer.step()
    torch.testing.assert_close(weight.detach().norm().item(), 3.5)
    assert optimizer.state[weight]["scale"] == 0


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(torch.float32, 1e-15), (torch.float32, 1e15), (torch.float16, 6e4), (torch.float16, 1e-7)],
)
def test_a_step_has_the_length_of_the_rate_whatever_the_gradient(dtype, size):
    # Red: squares or the inverse in float16 overflow (6e4 squared; 1/1e-7 is above 65504).
    weight = torch.nn.Parameter(torch.zeros(100, dtype=dtype))
    weight.grad = torch.full((100,), size, dtype=dtype)
    SNGM([weight], lr=1.0, momentum=0.0).step()
    torch.testing.assert_close(weight.detach().float().norm().item(), 1.0, rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e30])
def test_a_gradient_beyond_float32_s_squares_gives_no_nan_and_no_long_step(size):
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.full((1,), size)
    SNGM([weight], lr=1.0, momentum=0.0).step()
    assert weight.abs() <= 1 + 1e-6


def test_groups_of_several_precisions_share_one_norm():
    wide = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    narrow = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    wide.grad, narrow.grad = torch.full_like(wide, 3.0), torch.full_like(narrow, 4.0)
    SNGM([wide, narrow], lr=1.0).step()
    assert wide.item() == pytest.approx(-0.6, rel=1e-6)
    assert narrow.item() == pytest.approx(-0.8, rel=4e-3)
    assert (wide.dtype, narrow.dtype) == (torch.float64, torch.bfloat16)


def test_all_parameters_publish_the_one_scale():
    weights, gradients, rates = random_problem(0, steps=1)
    optimizer = SNGM(grouped(weights))
    run(optimizer, gradients, rates)
    published = [optimizer.state[p]["scale"] for g in optimizer.param_groups for p in g["params"]]
    both = zip(gradients[0], weights, DECAYS, strict=True)
    h = [g + d * w for gs, ws, d in both for g, w in zip(gs, ws, strict=True)]
    expected = 1 / torch.cat([x.flatten() for x in h]).norm()
    assert len({scale.item() for scale in published}) == 1
    torch.testing.assert_close(published[0], expected)
    assert optimizer.layerwise is False


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("form", ["gradient", "velocity", "buffer"])
def test_blockwise_follows_its_equation(form, decay):
    # Red: one norm for all, a norm without the decay.
    weights, gradients, rates = random_problem(4)
    flat = [w for group in weights for w in group]
    params = [torch.nn.Parameter(w.clone()) for w in flat]
    optimizer = SNGM(params, blockwise=True, weight_decay=decay, form=form)
    assert optimizer.layerwise is True
    us = [torch.zeros_like(w) for w in flat]
    for step, eta in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = eta
        for k, g in enumerate(g for group in step for g in group):
            params[k].grad = g.clone()
            h = g + decay * flat[k]
            s = 1 / h.norm()
            us[k] = 0.9 * us[k] + {"gradient": s, "velocity": eta * s, "buffer": 1.0}[form] * h
            flat[k] = flat[k] - {"gradient": eta, "velocity": 1.0, "buffer": eta * s}[form] * us[k]
        optimizer.step()
    for found, wanted in zip(params, flat, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_blockwise_a_block_without_a_gradient_stands_and_a_broken_one_shows(decay):
    still, broken, moving = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    optimizer = SNGM([still, broken, moving], lr=0.1, blockwise=True, weight_decay=decay)
    for weight in (still, broken, moving):
        weight.grad = torch.ones(2, 2)
    still.grad.zero_()
    broken.grad[0, 0] = torch.nan
    optimizer.step()
    torch.testing.assert_close(still.detach(), torch.ones(2, 2))
    assert not torch.isfinite(broken).any()
    assert (moving < 1).all()


def test_blockwise_groups_leave_the_others_one_norm():
    first, second, third = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [first], "blockwise": True}, {"params": [second, third]}]
    optimizer = SNGM(groups, lr=1.0, momentum=0.0)
    for weight, gradient in ((first, 7.0), (second, 3.0), (third, 4.0)):
        weight.grad = torch.tensor([gradient])
    optimizer.step()
    found = [w.item() for w in (first, second, third)]
    assert found == pytest.approx([-1.0, -0.6, -0.8])
