"""What every exported gradient noise keeps; a new one is picked up and needs one line below."""

import dataclasses
import inspect
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import largebatch as lb
from largebatch.contracts import GradientNoise

# Large enough to be seen. A new export without an entry fails test_every_export_has_an_entry.
ENTRIES: dict[str, list[GradientNoise]] = {
    "AnnealedNoise": [
        lb.AnnealedNoise(0.3),
        lb.AnnealedNoise(0.1, gamma=0.0, seed=7),
        lb.AnnealedNoise(0.1, placement="weights"),
    ],
}
CASES = [each for entries in ENTRIES.values() for each in entries]
case = pytest.mark.parametrize("noise", CASES, ids=str)
STEPS = 4


def exported():
    found = {name: getattr(lb, name) for name in lb.__all__}
    classes = {name: each for name, each in found.items() if inspect.isclass(each)}
    return {name for name, each in classes.items() if issubclass(each, GradientNoise)}


def test_every_export_has_an_entry():
    assert exported() == set(ENTRIES), "give each exported gradient noise arguments in ENTRIES"
    for name, noises in ENTRIES.items():
        assert {each.placement for each in noises} == {"gradient", "weights"}
        assert all(type(each) is getattr(lb, name) for each in noises)


class Model(nn.Module):
    """Tied, frozen, empty and sometimes unused parameters."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.empty = nn.Parameter(torch.empty(0, 4))
        self.sometimes = nn.Linear(3, 3)
        self.last = nn.Linear(3, 2)
        self.uses = True

    def forward(self, x):
        hidden = (self.tied(self.first(x)) * self.frozen).tanh() + self.empty.sum()
        return self.last(hidden + self.sometimes(x) if self.uses else hidden)


def make(noise, count=2, dtype=torch.float64, lr=0.2, **options):
    torch.manual_seed(1)
    model = Model().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return (
        model,
        optimizer,
        lb.Workers(model, optimizer, count=count, gradient_noise=noise, **options),
    )


def data(steps=STEPS, dtype=torch.float64):
    source = torch.Generator().manual_seed(2)
    return [
        torch.randn(12, 3, generator=source, dtype=torch.float64).to(dtype) for _ in range(steps)
    ]


def loss_of(model):
    return lambda x: model(x).square().mean()


def train(parts, batches, scaler=None):
    """The trajectory: every step's gradients and the weights that it left."""
    model, optimizer, workers = parts
    seen = []
    for x in batches:
        workers.backward(loss_of(model), x)
        if scaler is not None:
            scaler.unscale_(optimizer)
        seen += [p.grad.clone() for p in model.parameters() if p.grad is not None]
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        seen += [p.detach().clone() for p in model.parameters()]
    return seen


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def shift(noise, step, uses=True, freeze=False, **options):
    """By how much each parameter's gradient or weight is another for the noise of one step."""
    found = []
    for each in (noise, None):
        model, optimizer, workers = make(each, lr=0.0, **options)
        model.uses = uses
        model.first.requires_grad_(not freeze)
        workers.load_state_dict({**workers.state_dict(), "step": step})
        (x,) = data(1, model.first.weight.dtype)
        workers.backward(loss_of(model), x)
        grads = {n: p.grad for n, p in model.named_parameters()}
        optimizer.step()
        weights = {n: p.detach() for n, p in model.named_parameters()}
        found.append(grads if noise.placement == "gradient" else weights)
    noisy, plain = found
    return {n: t - plain[n] for n, t in noisy.items() if t is not None}


@case
def test_is_a_frozen_value(noise):
    twin = dataclasses.replace(noise)
    assert noise == twin
    assert hash(noise) == hash(twin)
    assert pickle.loads(pickle.dumps(noise)) == noise
    name = dataclasses.fields(noise)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noise, name, getattr(noise, name))
    assert sum(each == noise for each in CASES) == 1


@case
def test_adds_what_it_says_to_every_trained_parameter(noise):
    found = shift(noise, 2)
    direct = [torch.zeros_like(p) for p in Model().double().parameters()]
    noise.add(direct, 2, 1.0)
    for (name, p), expected in zip(Model().named_parameters(), direct, strict=True):
        if not p.requires_grad:
            assert not found.get(name, torch.zeros(1)).any()
        elif p.numel():
            assert expected.std() > 1e-3
            torch.testing.assert_close(found[name], expected.detach())


@case
def test_is_deterministic_and_leaves_the_global_generator_alone(noise):
    first = train(make(noise), data())
    torch.manual_seed(1234)
    torch.rand(7)
    assert same(train(make(noise), data()), first)
    parts = make(noise)
    before = torch.get_rng_state()
    train(parts, data())
    assert torch.equal(torch.get_rng_state(), before)


@case
@pytest.mark.parametrize("at", range(STEPS))
def test_resumed_is_uninterrupted(noise, at):
    whole = train(make(noise), data())
    parts = make(noise)
    head = train(parts, data()[:at])
    file = io.BytesIO()
    torch.save([each.state_dict() for each in parts], file)
    file.seek(0)
    other = make(noise)
    for each, state in zip(other, torch.load(file, weights_only=True), strict=True):
        each.load_state_dict(state)
    assert same(head + train(other, data()[at:]), whole)


@case
def test_is_the_same_whatever_the_workers(noise):
    # As several processes draw: each for itself, and all the same.
    runs = [shift(noise, 1, count=count) for count in (1, 2, 6)]
    for other in runs[1:]:
        for name, change in runs[0].items():
            torch.testing.assert_close(other[name], change)


@case
@pytest.mark.parametrize("how", [{"uses": False}, {"freeze": True}], ids=["unused", "frozen"])
def test_a_parameter_left_out_moves_no_others_noise(noise, how):
    # Red: places are counted among the gradients of the step, and all later ones shift.
    whole, part = shift(noise, 1), shift(noise, 1, **how)
    left_out = "sometimes." if "uses" in how else "first."
    for name, change in part.items():
        if name.startswith(left_out):
            assert not change.any()
        else:
            torch.testing.assert_close(change, whole[name])
    assert "last.weight" in part


@case
def test_optimizers_that_share_the_parameters_out_draw_as_one(noise):
    found = []
    for split in (False, True):
        model = make(noise)[0]
        parameters = list(model.parameters())
        groups = [parameters[:3], parameters[3:]] if split else [parameters]
        optimizers = [torch.optim.SGD(group, lr=0.1) for group in groups]
        workers = lb.Workers(model, optimizers, count=2, gradient_noise=noise)
        for x in data():
            workers.backward(loss_of(model), x)
            for each in optimizers:
                each.step()
        found.append([p.detach() for p in parameters])
    assert same(*found)


@case
def test_the_loss_scale_makes_no_difference(noise):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    scaled = train(make(noise, scaler=scaler), data(), scaler)
    for a, b in zip(scaled, train(make(noise), data()), strict=True):
        torch.testing.assert_close(a, b)


@case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_precisions(noise, dtype):
    parts = make(noise, dtype=dtype)
    seen = train(parts, data(dtype=dtype))
    assert all(t.dtype == dtype and t.isfinite().all() for t in seen)
    assert not same(seen, train(make(None, dtype=dtype), data(dtype=dtype)))


@case
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(noise, value):
    tensors = [torch.full((50,), value), None, torch.full((3, 3), value, dtype=torch.bfloat16)]
    noise.add(tensors, 0, 1.0)
    assert not any(t.isfinite().any() for t in tensors if t is not None)


class NoReading(TorchDispatchMode):
    """Raises where a tensor's value is read on the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.equal.default,
        ), f"{func} reads a value"
        return func(*args, **(kwargs or {}))


@case
def test_nothing_is_read_on_the_host(noise):
    with pytest.raises(AssertionError, match="reads a value"), NoReading():
        bool(torch.ones(()) > 0)
    with NoReading():
        noise.add([torch.ones(4, 3), None, torch.ones(2)], 3, torch.tensor(8.0))


@case
def test_joins_a_perturbation_and_leaves_its_memory_alone(noise):
    # Red: the memory sees the noisy mean, and every worker's noise is off by it.
    found = []
    for each in (noise, None):
        model, _, _ = make(None)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=3, gradient_noise=each)
        workers.backward(loss_of(model), data(1)[0])
        found.append(workers.state_dict()["slots"])
    assert same(*found)
