"""Products against the dense Hessian, and that a look at the curvature changes nothing."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from largebatch.curvature import hessian_products, hessian_vector_product

METHODS = ("exact", "differences")


class Tied(nn.Module):
    """One matrix used twice, a bias, a frozen factor and a parameter that no loss depends on."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(3, 4, dtype=dtype))
        self.bias = nn.Parameter(torch.randn(3, dtype=dtype))
        self.factor = nn.Parameter(torch.tensor(1.5, dtype=dtype), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2, dtype=dtype))

    def forward(self, x):
        return (torch.tanh(x @ self.matrix) @ self.matrix.T * self.factor + self.bias).pow(3).sum()


def dense(model, x):
    """The Hessian over all parameters, rows of frozen ones zero."""
    named = dict(model.named_parameters())
    shapes = {name: p.shape for name, p in named.items()}
    frozen = torch.cat([torch.full((p.numel(),), not p.requires_grad) for p in named.values()])

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        cut = {n: part.view(s) for (n, s), part in zip(shapes.items(), parts, strict=True)}
        return functional_call(model, cut, (x,))

    point = torch.cat([p.detach().flatten() for p in named.values()])
    found = torch.autograd.functional.hessian(loss, point)
    found[frozen] = 0.0
    found[:, frozen] = 0.0
    return found


def problem(dtype=torch.float64):
    torch.manual_seed(3)
    model, x = Tied(dtype), torch.randn(5, 3, dtype=dtype)
    return model, x, [torch.randn_like(p) for p in model.parameters()]


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.parametrize(("method", "rtol"), [("exact", 1e-12), ("differences", 1e-8)])
def test_is_the_dense_hessian_times_the_vector(method, rtol):
    # Red: a tied weight's second use forgotten, a cross term left out, a frozen row filled.
    model, x, vectors = problem()
    weights = list(model.parameters())
    expected = dense(model, x) @ flat(vectors)
    found = hessian_vector_product(lambda: model(x), weights, vectors, method=method)
    torch.testing.assert_close(flat(found), expected, rtol=rtol, atol=rtol * expected.norm().item())
    assert [f.shape for f in found] == [w.shape for w in weights]
    assert not any(f.requires_grad for f in found)
    assert found[2] == 0
    assert found[3].tolist() == [0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_products_at_one_point_do_not_disturb_each_other(method):
    model, x, vectors = problem()
    product = hessian_products(lambda: model(x), list(model.parameters()), method=method)
    first, zero = product(vectors), product([torch.zeros_like(v) for v in vectors])
    torch.testing.assert_close(product(vectors), first, rtol=0, atol=0)
    assert all((z == 0).all() for z in zero)


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_loss_has_no_curvature(method):
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    [found] = hessian_vector_product(
        lambda: (2 * w).sum(), [w], [torch.ones_like(w)], method=method
    )
    torch.testing.assert_close(found, torch.zeros_like(w), rtol=0, atol=1e-9)


def test_differences_in_single_precision_are_near_enough():
    model, x, vectors = problem(torch.float32)
    call = lambda: model(x)  # noqa: E731
    weights = list(model.parameters())
    exact = flat(hessian_vector_product(call, weights, vectors))
    near = flat(hessian_vector_product(call, weights, vectors, method="differences"))
    assert (near - exact).norm() / exact.norm() < 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_a_look_leaves_everything_as_it_was(method, fails):
    # Red: a weight restored by subtraction, a gradient added to or dropped, draws used up.
    model, x, vectors = problem()
    weights = list(model.parameters())
    beside = torch.ones((), dtype=torch.float64, requires_grad=True)  # not asked for, in the loss
    held = {p: torch.full_like(p, 7.0) for p in [*weights[:2], beside]}
    for p, gradient in held.items():
        p.grad = gradient
    before, state = copy.deepcopy(weights), torch.get_rng_state()

    def loss():
        if fails and not torch.equal(model.matrix, before[0]):
            raise RuntimeError("half way")
        return nn.functional.dropout(model(x) * beside, 0.5)

    product = hessian_products(loss, weights, method=method)
    if fails and method == "differences":
        with pytest.raises(RuntimeError, match="half way"):
            product(vectors)
    else:
        product(vectors)
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is g and (g == 7.0).all() for p, g in held.items())
    assert weights[3].grad is None
    assert [p.requires_grad for p in weights] == [True, True, False, True]


def test_both_sides_of_a_difference_see_the_same_dropout():
    w = torch.ones(50, dtype=torch.float64, requires_grad=True)
    [found] = hessian_vector_product(
        lambda: nn.functional.dropout(w).square().sum(),
        [w],
        [torch.ones_like(w)],
        method="differences",
    )
    kept = found.round(decimals=3).unique().tolist()
    assert kept == [0.0, 8.0]  # 2*(1/0.5)^2 where kept: else one side's mask would show as 1/e


def test_a_compiled_model_is_differenced_and_refused_exactly():
    model, x, vectors = problem()
    compiled = torch.compile(model, backend="aot_eager")
    weights = list(model.parameters())
    with pytest.raises(RuntimeError, match=r"differentiated twice.*double backward.*differences"):
        hessian_vector_product(lambda: compiled(x), weights, vectors)
    found = hessian_vector_product(lambda: compiled(x), weights, vectors, method="differences")
    expected = hessian_vector_product(lambda: model(x), weights, vectors)
    torch.testing.assert_close(flat(found), flat(expected), rtol=1e-6, atol=1e-6)


def test_a_cached_cast_of_the_weights_is_not_taken_for_the_moved_ones():
    # Red: inside an autocast region a side uses the cast weights of before, and H v is 0 or half.
    layer = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(layer.weight)  # so that bfloat16 can hold what is added to them
    x = torch.randn(6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x)
        call = lambda: layer(x).float().pow(2).sum()  # noqa: E731
        ones = [torch.ones(4, 4)]
        [found] = hessian_vector_product(call, [layer.weight], ones, method="differences")
        assert (layer(x) == 0).all()  # nor are the moved ones taken for the weights afterwards
    torch.testing.assert_close(found, 2 * ones[0] @ x.T @ x, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: w.detach().sum(), "fn must return a loss that depends on the parameters"),
        (lambda w: w * 2, "fn must return the loss as one number"),
        (lambda w: torch.ones((), requires_grad=True) * 2, r"reaches none of the 1 parameters"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_loss_without_a_hessian_is_refused(method, call, message):
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=message):
        hessian_vector_product(lambda: call(w), [w], [torch.ones(2)], method=method)


def test_arguments_that_cannot_be_are_refused():
    w, half = torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.float16)
    call = lambda: w.square().sum()  # noqa: E731
    with pytest.raises(ValueError, match=r"parameters' shapes \[\(2,\)\], got \[\(3,\)\]"):
        hessian_vector_product(call, [w], [torch.ones(3)])
    with pytest.raises(ValueError, match="method must be 'exact' or 'differences', got 'both'"):
        hessian_products(call, [w], method="both")
    with pytest.raises(ValueError, match="none of the 1 given has requires_grad=True"):
        hessian_products(call, [torch.ones(2)])
    half.requires_grad_()
    with pytest.raises(ValueError, match=r"float32 or float64 parameters, got torch.float16"):
        hessian_products(lambda: half.sum(), [half], method="differences")


class Once(torch.autograd.Function):
    """w^3, by a backward pass that autograd cannot differentiate."""

    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return w**3

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (w,) = ctx.saved_tensors
        return g * 3 * w**2


@pytest.mark.parametrize("end", [torch.sum, lambda t: t.square().sum()], ids=["last", "within"])
def test_what_can_be_differentiated_once_is_refused_instead_of_zero(end):
    # Red: not refused: after Once nothing depends on w, so autograd gives zeros and says nothing.
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    call = lambda: end(Once.apply(2 * w)) + w.sum()  # noqa: E731
    with pytest.raises(RuntimeError, match=r"Once\.backward is marked once_.*'differences'"):
        hessian_products(call, [w])
    [found] = hessian_vector_product(call, [w], [torch.ones_like(w)], method="differences")
    assert found.abs().min() > 1  # 48 w, or more


def test_a_function_of_ones_own_with_a_second_backward_is_taken():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            ctx.save_for_backward(w)
            return w**3

        @staticmethod
        def backward(ctx, g):
            (w,) = ctx.saved_tensors
            return g * 3 * w**2

    w = torch.tensor([1.0, 2.0], requires_grad=True)
    [found] = hessian_vector_product(lambda: Twice.apply(w).sum(), [w], [torch.ones(2)])
    torch.testing.assert_close(found, torch.tensor([6.0, 12.0]))
