"""Noise scales in the norms of sign descent and Muon, where covariance and mean are known."""

import pytest
import torch
from feeding import Noisy, feed

import largebatch as lb
from largebatch.probes.geometry import polar

NEVER = 1 - 1e-9
KINDS = ("sign", "spectral")


def measured(noisy, examples, steps, decay=NEVER, kinds=KINDS):
    probe = lb.NoiseScale(examples=1, decay=decay, geometry=kinds)
    for step, workers in enumerate(noisy.steps(steps, examples)):
        feed(probe, workers, examples, step)
    return probe


def matrix(rows, columns, seed, signal):
    """A matrix of means far from 0 beside its noise, and spreads that differ by row."""
    source = torch.Generator().manual_seed(seed)
    mean = torch.randn(rows, columns, generator=source).sign() * signal
    mean += torch.eye(rows, columns) * signal
    spread = (0.2 + torch.rand(rows, 1, generator=source)).expand(rows, columns)
    return mean, spread


@pytest.mark.parametrize("examples", [[4.0, 4.0], [2.0, 6.0, 4.0]])
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_sign_where_signal_is_large(examples, decay):
    # Red: no c4 (of one step of two workers a fifth too small, the square a third), M for M - 1,
    # weights left out. Neither signal nor noise is biased here, so that one step says it all.
    mean, spread = matrix(60, 500, 0, signal=2.0)
    truth = float(spread.sum() / mean.abs().sum()) ** 2
    found = measured(Noisy([mean], [spread]), examples, 4, decay, ["sign"]).result()
    assert found.sign_noise_scale == pytest.approx(truth, rel=0.03)
    assert found.spectral_noise_scale is None


@pytest.mark.parametrize(("shape", "decay"), [((12, 40), 0.0), ((40, 12), 0.0), ((16, 16), 0.9)])
def test_spectral_where_signal_is_large(shape, decay):
    # Red: the longer side's covariance, no correction of the root (of 16 x 16 one step of two
    # workers 15% too small), the mean's own product left in.
    mean, spread = matrix(*shape, 1, signal=6.0)
    if shape[0] > shape[1]:
        short, long = spread.square().sum(0), None
    else:
        short, long = spread.square().sum(1), None
    assert long is None
    noise, signal = float(short.sqrt().sum()), float(torch.linalg.svdvals(mean).sum())
    found = [
        measured(Noisy([mean], [spread], seed), [4.0, 4.0], 6, decay, ["spectral"]).result()
        for seed in range(8)
    ]
    scale = sum(each.spectral_noise_scale for each in found) / len(found)
    assert scale == pytest.approx((noise / signal) ** 2, rel=0.06)


def test_sign_where_noise_is_large_is_not_held_down_by_the_batch():
    # Red: ||g||_1 for the signal, with which nothing beyond pi/2 times the batch can come out.
    # Coordinates of two kinds: the bias is known, G*erf(G*sqrt(B)/(2*sigma)).
    mean = torch.cat([torch.full((2000,), 0.5), torch.zeros(20000)])
    spread = torch.ones(22000)
    batch = 16.0
    truth = float(spread.sum() / mean.abs().sum()) ** 2
    expected = truth / torch.erf(torch.tensor(0.5 * batch**0.5 / 2)).item() ** 2
    found = measured(Noisy([mean], [spread]), [8.0, 8.0], 40, kinds=["sign"]).result()
    assert truth > 20 * batch
    assert found.sign_noise_scale == pytest.approx(expected, rel=0.05)
    assert truth < found.sign_noise_scale < 1.5 * truth


def test_spectral_where_noise_is_large():
    # Red: the sum of g's singular values, which noise alone makes larger than the signal's here.
    mean = torch.zeros(24, 24)
    mean[0, 0] = 30.0
    found = measured(Noisy([mean], [torch.full((24, 24), 4.0)]), [1.0] * 4, 60, kinds=["spectral"])
    noise = 24 * 4.0 * 24**0.5
    assert found.result().spectral_noise_scale == pytest.approx((noise / 30) ** 2, rel=0.4)
    assert found.result().spectral_noise_scale > 10 * (noise / 720) ** 2


def test_euclid_is_off_by_orders_of_magnitude_where_few_coordinates_are_loud():
    # As gradients are that Adam is for: the noise of ten coordinates hides that all others are
    # clear at a batch of a few examples. The equation's number and the measured one.
    loud, quiet = torch.full((10,), 300.0), torch.full((20000,), 0.1)
    means = [torch.cat([torch.full((10,), 0.3), torch.full((20000,), 0.1)])]
    spreads = [torch.cat([loud, quiet])]
    euclid = float(spreads[0].square().sum() / means[0].square().sum())
    sign = float(spreads[0].sum() / means[0].sum()) ** 2
    assert euclid > 500 * sign
    found = measured(Noisy(means, spreads), [16.0] * 4, 60, kinds=["sign"]).result()
    assert found.sign_noise_scale == pytest.approx(sign, rel=0.2)
    assert found.covariance_trace / float(means[0].square().sum()) > 400 * found.sign_noise_scale


def test_matrices_alone_are_spectral_and_a_missing_gradient_is_zero():
    torch.manual_seed(0)
    first = [[torch.randn(4, 6) + 3, torch.randn(5)] for _ in range(4)]
    found = []
    for extra in (None, "vector", "missing"):
        workers = [[m, v][: 1 + (extra is not None)] for m, v in first]
        if extra == "missing":
            workers = [workers[0], *([m, None] for m, _ in workers[1:])]
        probe = lb.NoiseScale(geometry=KINDS)
        feed(probe, workers)
        found.append(probe.result())
    assert len({each.spectral_noise_scale for each in found}) == 1
    assert len({each.sign_noise_scale for each in found}) == 3


def test_what_gradients_are_scaled_by_does_not_show():
    torch.manual_seed(0)
    workers = [[torch.randn(4, 6) + 3] for _ in range(4)]
    found = []
    for factor in (1.0, 2.0**-10):
        probe = lb.NoiseScale(geometry=KINDS)
        feed(probe, [[g / factor for g in each] for each in workers], factor=factor)
        found.append(probe.result())
    assert found[0].sign_noise_scale == pytest.approx(found[1].sign_noise_scale, rel=1e-5)
    assert found[0].spectral_noise_scale == pytest.approx(found[1].spectral_noise_scale, rel=1e-5)


def test_a_half_without_workers_does_not_count():
    # Of a short group over processes: workers 0 and 2 of 0 ... 3.
    torch.manual_seed(0)
    probe = lb.NoiseScale(geometry=["sign"])
    parameter = [torch.zeros(3)]
    for step, numbers in enumerate([(0, 2), (0, 1)]):
        probe.starts(step, ["a"], parameter)
        given = [torch.randn(3) + 4 for _ in numbers]
        for number, gradient in zip(numbers, given, strict=True):
            probe.saw(number, parameter, [gradient], factor=1.0, weight=1.0)
        probe.combined([sum(given) / 2], factor=1.0)
    assert probe.result().steps == 1


@pytest.mark.parametrize("shape", [(5, 9), (6, 6)])
def test_polar_is_that_of_the_singular_value_decomposition(shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(polar(x), u @ v, rtol=0, atol=1e-4)
    assert torch.equal(polar(torch.zeros(shape)), torch.zeros(shape))
    assert torch.linalg.svdvals(polar(x)).max() <= 1 + 1e-9


def test_a_parameter_without_dimensions_is_a_coordinate():
    model = torch.nn.Linear(3, 1)
    model.scale = torch.nn.Parameter(torch.tensor(1.0))
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), count=4)
    probe = lb.NoiseScale(4, geometry=KINDS)
    workers.listen(probe)
    workers.backward(lambda x: (model.scale * model(x)).pow(2).mean(), torch.randn(16, 3))
    assert probe.result().sign_noise_scale is not None
