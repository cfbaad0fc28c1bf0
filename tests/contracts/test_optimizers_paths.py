"""One rule, several ways through memory: every optimizer must end at the same weights on each."""

import inspect
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

SHAPES = [(6, 4), (4,), (5, 3, 2, 2), (), (0, 3), (64, 80)]


def make(dtype=torch.float64, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]
    laid = [w.to(memory_format=layout) if w.ndim == 4 else w for w in weights]
    return [torch.nn.Parameter(w.to(dtype)) for w in laid]


def set_gradients(weights, seed, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(seed)
    for w in weights:
        gradient = torch.randn(w.shape, generator=generator, dtype=torch.float64).to(w.dtype)
        w.grad = gradient.to(memory_format=layout) if w.ndim == 4 else gradient


def run(optimizer, step=None, layout=torch.contiguous_format, count=5):
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for seed in range(count):
        set_gradients(weights, seed, layout)
        (step or optimizer.step)()
    return [w.detach().double().contiguous() for w in weights]


def close(found, wanted, atol=1e-13):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol, equal_nan=False)


@pytest.fixture
def no_host(monkeypatch):
    """Take the way of an accelerator, where the host reads nothing, with the CPU's numbers."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith("largebatch.optim.") and hasattr(module, "on_host"):
            monkeypatch.setattr(module, "on_host", lambda tensor: False)


def absent(optimizer, steps=8):
    """Steps in which now this, now that parameter has no gradient, and the rate changes."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for seed in range(steps):
        set_gradients(weights, seed)
        for place, weight in enumerate(weights):
            weight.grad.mul_(10.0 ** (seed % 4 - 1))
            if (seed + place) % 3 == 2:
                weight.grad = None
        optimizer.param_groups[0]["lr"] = 0.02 * (1 + seed % 2)
        optimizer.step()
    return [w.detach().double().contiguous() for w in weights]


def forms(cls):
    """Options that change the way; each is skipped where a rule does not have it."""
    known = inspect.signature(cls.__bases__[0] if cls.__module__ == "conftest" else cls).parameters
    choices = [{}, {"weight_decay": 0.1}, {"momentum": 0.0}, {"maximize": True}]
    choices += [{"form": form, "weight_decay": 0.1} for form in ("velocity", "gradient", "buffer")]
    choices += [{"exclude": None, "weight_decay": 0.1}, {"nesterov": True, "weight_decay": 0.1}]
    return [c for c in choices if all(name in known for name in c)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_fused_way_ends_where_the_multi_tensor_way_does(cls, dtype):
    # Red: a scale or a weight decay that one of the two ways leaves out.
    atol = 1e-13 if dtype == torch.float64 else 3e-5
    for options in forms(cls):
        fused = run(cls(make(dtype), **options))
        for other in ({"fused": False}, {"foreach": True}, {"foreach": False}):
            close(run(cls(make(dtype), **options, **other)), fused, atol)


def test_the_way_of_an_accelerator_ends_where_the_host_s_does(cls, request):
    # Red: numbers that parameters share, so that one that does not step gets another's.
    wanted = [absent(cls(make(), **options)) for options in forms(cls)]
    request.getfixturevalue("no_host")
    for options, ends in zip(forms(cls), wanted, strict=True):
        close(absent(cls(make(), **options)), ends, 1e-8)  # rounding grows


def test_weights_and_gradients_may_lie_in_any_order(cls):
    # Red: the fused kernel run over weights and gradients whose elements lie in another order.
    channels_last = torch.channels_last
    wanted = run(cls(make(), weight_decay=0.1))
    for weights, gradients in (
        (channels_last, channels_last),
        (channels_last, torch.contiguous_format),
        (torch.contiguous_format, channels_last),
    ):
        found = run(cls(make(layout=weights), weight_decay=0.1), layout=gradients)
        close(found, wanted)


def test_slices_and_transposes_are_parameters_like_others(cls):
    whole, cut = make(), make()
    base = torch.full((8, 12), 7.0, dtype=torch.float64)
    base[1:5, 2:8] = whole[0].detach().t()
    cut[0] = torch.nn.Parameter(base[1:5, 2:8].t())
    close(run(cls(cut, weight_decay=0.1)), run(cls(whole, weight_decay=0.1)))
    assert (base[0] == 7).all()  # what lies between the elements is nobody's business
    assert (base[1:5, 8:] == 7).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_may_be_more_precise_than_the_parameters(cls, dtype):
    half, full = make(dtype), make(dtype)
    full = [torch.nn.Parameter(w.detach().float()) for w in full]
    optimizer = cls(half, state_dtype=torch.float32, weight_decay=0.1)
    found, wanted = run(optimizer), run(cls(full, weight_decay=0.1))
    close(found, wanted, 0.06)  # a few roundings of the weights themselves
    for weight in half:
        shaped = [t for t in optimizer.state[weight].values() if t.shape == weight.shape]
        assert all(t.dtype == torch.float32 for t in shaped)
    saved = optimizer.state_dict()
    resumed = cls([torch.nn.Parameter(w.detach().clone()) for w in half])
    resumed.load_state_dict(saved)
    for mine, theirs in zip(resumed.state.values(), optimizer.state.values(), strict=True):
        assert {k: v.dtype for k, v in mine.items()} == {k: v.dtype for k, v in theirs.items()}


def test_a_state_moves_to_parameters_of_another_precision(cls):
    optimizer = cls(make(torch.float32), weight_decay=0.1)
    run(optimizer, count=3)
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    wide = [torch.nn.Parameter(w.detach().double()) for w in weights]
    moved = cls(wide, weight_decay=0.1)
    moved.load_state_dict(optimizer.state_dict())
    close(run(moved, count=3), run(optimizer, count=3), 1e-4)


def test_a_step_on_fake_tensors_is_foretold(cls):
    # Red: a kernel run on memory that a fake does not have.
    with FakeTensorMode():
        weights = [torch.nn.Parameter(torch.ones(s)) for s in SHAPES]
        optimizer = cls(weights, weight_decay=0.1)
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        for _ in range(2):
            optimizer.step()
    assert all(type(t) is not torch.Tensor for s in optimizer.state.values() for t in s.values())


def test_nan_gradients_show(cls):
    # Red: a norm of NaN or infinity taken for zero, so that a broken step looks like none.
    for broken in (float("nan"), float("inf")):
        weights = make(torch.float32)
        optimizer = cls(weights, weight_decay=0.1)
        set_gradients(weights, 0)
        weights[0].grad[0, 0] = broken
        optimizer.step()
        assert not torch.isfinite(weights[0]).all()


def test_a_state_of_other_shapes_is_refused_before_anything_changes(cls):
    # Red: a kernel that runs over the end of a buffer.
    small, large = (torch.nn.Linear(n, n) for n in (10, 40))
    optimizers = [cls(model.parameters()) for model in (small, large)]
    for model, optimizer in zip((small, large), optimizers, strict=True):
        model(torch.ones(1, model.in_features)).sum().backward()
        optimizer.step()
    before = {k: v.clone() for k, v in optimizers[1].state[large.weight].items()}
    shaped = any(value.ndim for value in before.values())
    if not shaped:
        pytest.skip(f"{cls.__name__} keeps nothing of a parameter's shape")
    with pytest.raises(ValueError, match=r"has shape \(10, 10\), its parameter \(40, 40\)"):
        optimizers[1].load_state_dict(optimizers[0].state_dict())
    after = optimizers[1].state[large.weight]
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_storage_of_another_size_is_an_error_not_a_crash(cls):
    weight = torch.nn.Parameter(torch.ones(10, 10))
    optimizer = cls([weight])
    weight.grad = torch.ones(10, 10)
    optimizer.step()
    weight.grad = None
    weight.data = torch.ones(40, 40)
    weight.grad = torch.ones(40, 40)
    if any(value.ndim for value in optimizer.state[weight].values()):
        with pytest.raises(RuntimeError, match=r"size|shape"):
            optimizer.step()


def test_hooks_of_loading_have_their_say(cls):
    # Red: values taken from the dictionary that was given, past what hooks made of it.
    optimizer = cls(make())
    run(optimizer, count=2)
    loaded = cls(make())

    def doubled(_, state):
        return {
            **state,
            "state": {k: {n: 2 * t for n, t in s.items()} for k, s in state["state"].items()},
        }

    loaded.register_load_state_dict_pre_hook(doubled)
    loaded.load_state_dict(optimizer.state_dict())
    for mine, theirs in zip(loaded.state.values(), optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[name], 2 * value) for name, value in theirs.items())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}])
def test_a_compiled_step_follows_parameters_that_come_and_go(cls, options):
    # Red: a graph that was made for parameters of one number, replayed when they have several.
    torch._dynamo.reset()
    eager, compiled = cls(make(), **options), cls(make(), **options)
    wanted = absent(eager)
    compiled.step = torch.compile(compiled.step, backend="eager")
    close(absent(compiled), wanted, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}])
def test_a_compiled_step_is_the_step_and_a_rate_in_a_tensor_does_not_recompile(cls, options):
    # Red: a value read on the host breaks the graph, a rate read as a number compiles another.
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    rates = [torch.tensor(0.05, dtype=torch.float64) for _ in range(2)]
    eager, compiled = (cls(make(), lr=rate, **options) for rate in rates)
    for optimizer in (eager, compiled):
        run(optimizer, count=2)  # state is made, as for a CUDA graph's warm-up

    step = torch.compile(compiled.step, fullgraph=True)
    for seed in range(4):
        for rate in rates:
            rate.fill_(0.05 / (seed + 1))
        close(run(compiled, step, count=1), run(eager, count=1), 1e-12)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
