"""Against the dense Hessian, element by element."""

import pytest
import torch
from torch import nn

from largebatch.curvature import diagonal_at


def dense(loss, parameters):
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])
    rows = [torch.autograd.grad(each, parameters, retain_graph=True) for each in flat]
    whole = torch.stack([torch.cat([r.flatten() for r in row]) for row in rows])
    return whole.diagonal().split([p.numel() for p in parameters])


def test_is_the_dense_hessians_diagonal_in_any_memory_format(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 12)
    model = model.to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    assert not parameters[0].is_contiguous()
    places = [torch.randperm(p.numel())[:7] for p in parameters]
    found = diagonal_at(lambda: loss_of(model)(*batch), parameters, places)
    expected = dense(loss_of(model)(*batch), parameters)
    for h, at, whole in zip(found, places, expected, strict=True):
        torch.testing.assert_close(h, whole[at])


def test_linear_and_unreached_parameters_have_no_curvature():
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    at = torch.tensor([1])
    found = diagonal_at(lambda: (3 * a.square() + b).sum(), [a, b, c], [at] * 3)
    assert [h.tolist() for h in found] == [[6.0], [0.0], [0.0]]


def test_a_layer_above_does_not_bend_it():
    # Reached by a gradient that depends on other parameters alone: h is 0, and not an error.
    a, b = (torch.tensor([2.0], requires_grad=True) for _ in range(2))
    found = diagonal_at(lambda: (a * b).sum(), [a, b], [torch.tensor([0])] * 2)
    assert [h.tolist() for h in found] == [[0.0], [0.0]]


def test_leaves_gradients_and_random_state():
    w = torch.ones(4, requires_grad=True)
    w.grad = torch.full((4,), 7.0)
    before = torch.get_rng_state()
    diagonal_at(lambda: nn.functional.dropout(w).square().sum(), [w], [torch.arange(4)])
    assert torch.equal(torch.get_rng_state(), before)
    assert w.grad.tolist() == [7.0] * 4


class Once(torch.autograd.Function):
    """x, whose derivative cannot be taken again, as flash attention's cannot."""

    @staticmethod
    def forward(ctx, x, first=True):
        ctx.first = first
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if not ctx.first:
            raise RuntimeError("derivative for once is not implemented")
        return Once.apply(gradient, False), None


def test_says_what_cannot_be_differentiated_twice():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"differentiated twice.*once is not implemented"):
        diagonal_at(lambda: Once.apply(w).square().sum(), [w], [torch.arange(2)])


class Marked(torch.autograd.Function):
    """x^2, whose backward is marked as what cannot be differentiated again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def test_refuses_what_autograd_would_call_straight():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="marked once_differentiable, and its curvature"):
        diagonal_at(lambda: Marked.apply(w).square().sum(), [w], [torch.arange(2)])


def test_says_where_nothing_is_reached():
    w, other = (torch.ones(1, requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match="reaches none of the 1 parameters"):
        diagonal_at(lambda: w.sum(), [other], [torch.arange(1)])
