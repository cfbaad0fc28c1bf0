"""What every optimizer that largebatch.optim exports must do; a new one is picked up by itself."""

import copy
import inspect

import pytest
import torch

SHAPES = [(3, 4), (4,), (2, 3, 2, 2), (), (0, 3)]


def make(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]
    return [torch.nn.Parameter(w.to(dtype)) for w in weights]


def steps(optimizer, count=3, seed=1, sign=1.0):
    """Step on seeded gradients: the same for the same parameters, whatever their groups."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for p in parameters(optimizer):
            gradient = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.grad = (sign * gradient).to(p.dtype)
        optimizer.step()


def parameters(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def equal(first, second):
    torch.testing.assert_close(list(first), list(second), rtol=0, atol=0, equal_nan=False)


def differs(first, second):
    return any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


def needs(cls, *options):
    missing = [name for name in options if name not in inspect.signature(cls).parameters]
    if missing:
        pytest.skip(f"{cls.__name__} has no {missing[0]}")


def test_needs_nothing_but_parameters(cls):
    weights = make()
    before = copy.deepcopy(weights)
    steps(cls(weights))
    assert differs(weights, before)
    assert all(torch.isfinite(w).all() for w in weights)


def test_each_group_has_its_own_options(cls):
    weights = make()
    still = weights[0].detach().clone()
    optimizer = cls([{"params": weights[:1], "lr": 0.0}, {"params": weights[1:]}])
    steps(optimizer)
    equal(weights[:1], [still])
    assert differs(weights[2:3], make()[2:3])


@pytest.mark.parametrize(("option", "value"), [("weight_decay", 0.5), ("momentum", 0.5)])
def test_a_group_s_option_counts(cls, option, value):
    needs(cls, option)
    plain, special = make(), make()
    steps(cls(plain, **{option: 0.0}))
    groups = [{"params": special[:2]}, {"params": special[2:], option: value}]
    steps(cls(groups, **{option: 0.0}))
    assert differs(plain[2:3], special[2:3])


def test_a_group_added_later_is_like_one_given_at_once(cls):
    at_once, later = make(), make()
    first = cls([{"params": at_once[:2]}, {"params": at_once[2:], "lr": 0.3}])
    second = cls(later[:2])
    second.add_param_group({"params": later[2:], "lr": 0.3})
    for optimizer in (first, second):
        steps(optimizer)
    equal(at_once, later)


def test_parameters_without_a_gradient_are_left_alone(cls):
    # The frozen one, the unused one, and all of them.
    weights = make()
    weights[0].requires_grad_(False)
    before = copy.deepcopy(weights)
    optimizer = cls(weights, weight_decay=0.1)
    optimizer.step()
    equal(weights, before)
    weights[2].grad = torch.ones_like(weights[2])
    optimizer.step()
    equal(weights[:2], before[:2])
    assert differs(weights[2:3], before[2:3])
    assert weights[0] not in optimizer.state
    assert weights[1] not in optimizer.state


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_gradients_give_no_nan_and_momentum_goes_on(cls, dtype, start, weight_decay):
    weights = [torch.nn.Parameter(torch.full(s, start, dtype=dtype)) for s in SHAPES]
    optimizer = cls(weights, lr=0.5, weight_decay=weight_decay)
    for gradient in (0.0, 1.0, 0.0):
        before = copy.deepcopy(weights)
        for weight in weights:
            weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        assert all(torch.isfinite(t).all() for t in leaves(dict(optimizer.state)) + weights)
    assert differs(weights, before)


def test_tied_parameters_move_once(cls):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)
            self.second = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)
            self.second.weight = self.first.weight

    tied = Tied()
    alone = torch.nn.Parameter(tied.first.weight.detach().clone())
    optimizers = cls(tied.parameters()), cls([alone])
    for optimizer in optimizers:
        steps(optimizer)
    equal([tied.second.weight], [alone])
    assert len(optimizers[0].state) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_full_precision(cls, dtype):
    half, full = make(dtype), make(dtype)
    full = [torch.nn.Parameter(p.detach().double()) for p in full]
    for weights in (half, full):
        steps(cls(weights, weight_decay=0.1), 4)
    assert all(p.dtype == dtype for p in half)
    wide = [p.detach().double() for p in half]
    torch.testing.assert_close(wide, [p.detach() for p in full], rtol=0.02, atol=0.02)


def test_mixed_precisions_step_together(cls):
    weights = make(torch.float32)[:2] + make(torch.float64)[2:3] + make(torch.bfloat16)[3:]
    dtypes = [w.dtype for w in weights]
    reference = [torch.nn.Parameter(w.detach().double()) for w in weights]
    for each in (weights, reference):
        steps(cls(each))
    assert [w.dtype for w in weights] == dtypes
    wide = [w.detach().double() for w in weights]
    torch.testing.assert_close(wide, [w.detach() for w in reference], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"maximize": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.0}])
def test_gradients_are_left_bit_for_bit(cls, momentum, dtype, options):
    needs(cls, *momentum)
    weights = make(dtype)
    optimizer = cls(weights, **momentum, **options)
    steps(optimizer, 1)
    found = [w.grad for w in weights]
    copies = [g.clone() for g in found]
    optimizer.step()
    assert all(w.grad is g for w, g in zip(weights, found, strict=True))
    equal(found, copies)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_maximize_descends_the_negative(cls, weight_decay):
    up, down = make(), make()
    steps(cls(up, weight_decay=weight_decay, maximize=True))
    steps(cls(down, weight_decay=weight_decay), sign=-1.0)
    equal(up, down)


@pytest.mark.parametrize("form", [{}, {"form": "gradient"}, {"form": "velocity"}])
@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.0}])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_rate_in_a_tensor_is_a_rate(cls, shape, momentum, form):
    options = {**momentum, **form}
    needs(cls, *options)
    number, tensor = make(), make()
    rate = torch.full(shape, 0.25, dtype=torch.float64)
    steps(cls(number, lr=0.25, **options))
    optimizer = cls(tensor, lr=rate, **options)
    steps(optimizer)
    torch.testing.assert_close(tensor, number, rtol=0, atol=1e-14)
    before = copy.deepcopy(tensor)
    optimizer.state.clear()
    rate.zero_()  # the tensor itself is read, not a copy of its value
    steps(optimizer)
    equal(tensor, before)


def test_one_tensor_at_a_time_is_the_same_arithmetic(cls):
    together, alone = make(), make()
    steps(cls(together, weight_decay=0.1, foreach=True))
    steps(cls(alone, weight_decay=0.1, foreach=False))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-14)


def test_there_is_something_to_test(every_optimizer):
    assert {"SNGM", "LARS"} <= every_optimizer


def test_sparse_gradients_are_refused_by_name(cls):
    embedding = torch.nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    optimizer = cls(embedding.named_parameters())
    with pytest.raises(TypeError, match=f"{cls.__name__} needs dense gradients.*'weight'"):
        optimizer.step()
