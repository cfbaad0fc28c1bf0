"""The noise scale against closed forms, and through every way in which workers come."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from feeding import Noisy, feed, mean
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import largebatch as lb

NEVER = 1 - 1e-9  # a decay that makes averages plain means


def oracle(workers, weights, examples):
    """Per layer tr(Sigma) and ||G||^2 in float64, written from the equation."""
    found = []
    total = sum(weights)
    for each in zip(*workers, strict=True):
        some = [torch.zeros(()) if g is None else g.double() for g in each]
        combined = sum(g * w for g, w in zip(some, weights, strict=True)) / total
        spread = sum(w * (g - combined).square().sum() for g, w in zip(some, weights, strict=True))
        variance = float(spread) / (len(workers) - 1)
        found.append((variance * examples, float(combined.square().sum()) - variance / total))
    return found


def check(found, expected, rel=1e-5):
    traces, squares = zip(*expected, strict=True)
    assert found.covariance_trace == pytest.approx(sum(traces), rel=rel)
    assert found.gradient_squared == pytest.approx(sum(squares), rel=rel)
    ratio = sum(traces) / sum(squares) if sum(squares) > 0 else math.nan
    assert found.noise_scale == pytest.approx(ratio, rel=rel, nan_ok=True)
    ratios = [
        found.batch_size * s / t if t else math.nan for t, s in zip(traces, squares, strict=True)
    ]
    assert found.layer_signal_to_noise == pytest.approx(ratios, rel=10 * rel, nan_ok=True)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [3.0, 1.0, 8.0]])
@pytest.mark.parametrize("factor", [1.0, 2.0**-12])
def test_one_step_is_the_equation(weights, factor):
    # Red: M for M - 1, unweighted squares, the factor taken once, a missing gradient left out.
    torch.manual_seed(3)
    workers = [[torch.randn(40, 150) + 2, torch.randn(7) + 1, torch.ones(3)] for _ in range(3)]
    workers[1][1] = None
    scaled = [[None if g is None else g / factor for g in each] for each in workers]
    probe = lb.NoiseScale(examples=4)
    feed(probe, scaled, weights, factor=factor)
    found = probe.result()
    assert found.batch_size == 4 * sum(weights)
    assert found.steps == 1
    check(found, oracle(workers, weights, 4))
    assert math.isnan(found.layer_signal_to_noise[2])  # its workers agree


@pytest.mark.parametrize("examples", [[8.0, 8.0], [2.0, 16.0, 30.0]])
def test_without_bias_where_the_truth_is_known(examples):
    # Red: M for M - 1 (half or two thirds), ||g||^2 for ||G||^2 (here 1.5 times), weights left out.
    torch.manual_seed(0)
    means = [torch.full((50,), 0.1), torch.zeros(30)]
    spreads = [torch.rand(50) + 0.1, torch.full((30,), 0.3)]
    trace = sum(float(s.square().sum()) for s in spreads)
    square = 0.5
    probe, steps = lb.NoiseScale(decay=NEVER), 1500
    for step, workers in enumerate(Noisy(means, spreads).steps(steps, examples)):
        feed(probe, workers, examples, step)
    found, total = probe.result(), sum(examples)
    # Standard errors of means over the steps.
    fourth = sum(float(s.pow(4).sum()) for s in spreads)
    of_trace = (2 * fourth / (len(examples) - 1) / steps) ** 0.5
    signal = float((means[0].square() * spreads[0].square()).sum()) / total
    of_square = ((4 * signal + 4 * fourth / total**2) / steps) ** 0.5
    # Half of what dividing by M, or taking ||g||^2 for ||G||^2, would be off.
    assert abs(found.covariance_trace - trace) < 4 * of_trace < trace / len(examples) / 2
    assert abs(found.gradient_squared - square) < 4 * of_square < trace / total / 2
    assert found.noise_scale == pytest.approx(trace / square, rel=0.1)
    assert abs(found.layer_signal_to_noise[1]) < 0.05  # nothing but noise


def test_averages_are_taken_of_numerator_and_denominator_apart():
    # Red: the mean of ratios; no correction of the first steps.
    torch.manual_seed(1)
    steps = [[[torch.randn(6) + 2] for _ in range(3)] for _ in range(4)]
    probe = lb.NoiseScale(decay=0.5)
    for step, workers in enumerate(steps):
        feed(probe, workers, step=step)
    weights = [0.5 ** (4 - t) for t in range(4)]
    each = [oracle(workers, [1.0] * 3, 1)[0] for workers in steps]
    trace, square = (
        sum(w * e[k] for w, e in zip(weights, each, strict=True)) / sum(weights) for k in (0, 1)
    )
    assert probe.result().noise_scale == pytest.approx(trace / square, rel=1e-5)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 90), nn.Tanh(), nn.Linear(90, 3)).double()


def data(size=24):
    source = torch.Generator().manual_seed(5)
    x = torch.randn(size, 6, generator=source, dtype=torch.float64)
    return x, torch.randint(3, (size,), generator=source)


def own_gradients(pieces, model=None):
    model = network() if model is None else model
    found = []
    for x, y in pieces:
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    return found


def listening(count, examples=1.0, **options):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, count=count, **options)
    probe = lb.NoiseScale(examples=examples)
    workers.listen(probe)
    return model, optimizer, workers, probe


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("at_once", [1, 2])
def test_of_the_workers_of_a_step(at_once, reduction):
    # Red: of several at once, weights left out, or all taken for one.
    share, examples = (0.25, 24) if reduction == "sum" else (1.0, 6)
    model, _, workers, probe = listening(4, examples, reduction=reduction)
    x, y = data()

    def loss(x, y):
        return nn.functional.cross_entropy(model(x), y) * share

    workers.backward(loss, x, y, at_once=at_once)
    expected = own_gradients(zip(x.chunk(4), y.chunk(4), strict=True))
    check(probe.result(), oracle(expected, [share] * 4, examples))
    assert probe.result().layers == [n for n, _ in model.named_parameters()]


def test_of_workers_of_unequal_sizes():
    model, _, workers, probe = listening(3)
    pieces = list(zip(*(each.split([4, 6, 14]) for each in data()), strict=True))
    for x, y in pieces:
        with workers.next(weight=len(x)):
            nn.functional.cross_entropy(model(x), y).backward()
    workers.combine()
    check(probe.result(), oracle(own_gradients(pieces), [4.0, 6.0, 14.0], 1))
    assert probe.result().batch_size == 24


@pytest.mark.parametrize("sizes", [[8, 8, 8], [4, 6, 14], [8, 8]])
def test_of_losses_that_add_up(sizes):
    # Red: shares taken for examples, a short group's mean for the whole one's.
    model, _, workers, probe = listening(3, examples=24, reduction="sum")
    x, y = data()
    pieces = list(zip(*(e[: sum(sizes)].split(sizes) for e in (x, y)), strict=True))
    for xi, yi in pieces:
        share = None if sizes[0] == 8 else len(xi) / 24
        with workers.next(weight=share):
            loss = nn.functional.cross_entropy(model(xi), yi)
            (loss * len(xi) / 24).backward()
    workers.combine()
    check(probe.result(), oracle(own_gradients(pieces), [float(s) for s in sizes], 1))
    assert probe.result().batch_size == pytest.approx(sum(sizes))


def test_the_loss_scale_does_not_show():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    found = []
    for more in ({}, {"scaler": scaler}):
        model, _, workers, probe = listening(4, **more)
        workers.backward(lambda x, y: nn.functional.cross_entropy(model(x), y), *data())  # noqa: B023
        found.append(probe.result())
    plain, scaled = found
    assert scaled.noise_scale == pytest.approx(plain.noise_scale, rel=1e-9)
    assert scaled.gradient_squared == pytest.approx(plain.gradient_squared, rel=1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_does_not_count(bad):
    torch.manual_seed(0)
    whole, probe = lb.NoiseScale(), lb.NoiseScale()
    for step in range(3):
        workers = [[torch.randn(5000) + 1, torch.randn(3)] for _ in range(2)]
        feed(whole, workers, step=step)
        feed(probe, workers, step=2 * step)
        workers[1][step % 2][1] = bad
        feed(probe, workers, step=2 * step + 1)
    assert asdict(probe.result()) == asdict(whole.result())


def test_every_so_many_steps():
    torch.manual_seed(0)
    seen, probe = lb.NoiseScale(), lb.NoiseScale(every=3)
    for step in range(7):
        workers = [[torch.randn(10) + 1] for _ in range(2)]
        feed(probe, workers, step=step)
        if step in (0, 3, 6):
            feed(seen, workers, step=step)
    assert asdict(probe.result()) == asdict(seen.result())
    assert probe.result().steps == 3


def test_one_worker_is_refused():
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), count=1)
    with pytest.raises(ValueError, match="NoiseScale needs at least 2 workers in all, got 1"):
        workers.listen(lb.NoiseScale())
    probe = lb.NoiseScale()
    feed(probe, [[torch.ones(2)]])
    with pytest.raises(RuntimeError, match=r"none of the 1 steps .* needs two workers a step"):
        probe.result()


def test_nothing_heard_is_an_error():
    with pytest.raises(RuntimeError, match=r"has heard no step yet: workers\.listen"):
        lb.NoiseScale().result()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "examples must be a finite number above 0, got 0"),
        ({"every": 0}, "every must be"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1, got 1.0"),
        ({"geometry": ("nuclear",)}, "geometry takes some of .*'sign', 'spectral'.*'nuclear'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        lb.NoiseScale(**options)


def test_a_forgotten_step_does_not_count():
    model, _, workers, probe = listening(2)
    x, y = data()
    with workers.next():
        (100 * nn.functional.cross_entropy(model(x), y)).backward()
    workers.forget()
    workers.backward(lambda x, y: nn.functional.cross_entropy(model(x), y), x, y)
    expected = own_gradients(zip(x.chunk(2), y.chunk(2), strict=True))
    check(probe.result(), oracle(expected, [1.0] * 2, 1))


def test_other_parameters_start_anew():
    probe = lb.NoiseScale()
    feed(probe, [[torch.ones(2)], [torch.zeros(2)]], names=["a"])
    workers = [[torch.ones(3)], [torch.ones(3) * 3]]
    feed(probe, workers, names=["b"], step=1)
    assert probe.result().steps == 1
    check(probe.result(), oracle(workers, [1.0, 1.0], 1))


@pytest.mark.parametrize("geometry", [(), ("sign", "spectral")])
def test_a_resumed_one_goes_on(geometry, tmp_path):
    torch.manual_seed(0)
    steps = [[[torch.randn(5, 4) + 1, torch.randn(3)] for _ in range(3)] for _ in range(5)]
    whole, head, tail = (lb.NoiseScale(every=2, geometry=geometry) for _ in range(3))
    for step, workers in enumerate(steps):
        feed(whole, workers, step=step)
        if step == 2:
            torch.save(head.state_dict(), tmp_path / "state.pt")
            tail.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        feed(head if step < 2 else tail, workers, step=step)
    assert asdict(tail.result()) == asdict(whole.result())
    if geometry:
        with pytest.raises(ValueError, match=r"the state is of geometry=.*this NoiseScale has"):
            lb.NoiseScale().load_state_dict(whole.state_dict())


class NoReads(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(func), "a value was read on the host"
        assert "nonzero" not in str(func), "a shape depends on values"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("geometry", [(), ("sign", "spectral")])
def test_nothing_is_read_on_the_host_before_the_result(geometry):
    torch.manual_seed(0)
    probe = lb.NoiseScale(geometry=geometry)
    workers = [[torch.randn(80, 60), torch.randn(3)] for _ in range(3)]
    with NoReads():
        feed(probe, workers, [1.0, torch.tensor(2.0), 1.0], factor=torch.tensor(0.5))
        feed(probe, workers, step=1)
        assert probe.pooled() == []
    assert probe.result().steps == 2


@pytest.mark.parametrize("geometry", [(), ("sign", "spectral")])
def test_a_row_is_json(geometry):
    probe = lb.NoiseScale(geometry=geometry)
    feed(probe, [[torch.randn(4, 3) + 1] for _ in range(4)])
    row = json.loads(json.dumps(asdict(probe.result())))
    assert set(row) == {
        "noise_scale", "gradient_squared", "covariance_trace", "batch_size", "sign_noise_scale",
        "spectral_noise_scale", "layers", "layer_signal_to_noise", "steps",
    }  # fmt: skip
    assert (row["sign_noise_scale"] is None) == (not geometry)


def test_mean_is_weighted():  # of the tests' own
    assert mean([[torch.tensor(1.0)], [torch.tensor(4.0)]], [2.0, 1.0])[0] == 2
