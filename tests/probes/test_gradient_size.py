"""Gradients whose every example's is a row of the data, so that all moments are known."""

import math

import pytest
import torch
from torch import nn

from largebatch.probes import gradient_size
from largebatch.theory import mean_gradient_magnitude


@pytest.fixture
def rows(weights):
    """A model, a loss whose gradient at ``a`` is the mean row of x, and at ``b`` that of y."""

    def make(x, y):
        model = weights(a=torch.zeros(x.shape[1]), b=torch.zeros(y.shape[1]))
        return model, lambda x, y: (x @ model.a + y @ model.b).mean()

    return make


def data(examples, wide, mean=0.0):
    return mean + 3 * torch.randn(examples, wide, dtype=torch.float64)


def over_seeds(field, count, **given):
    """The mean of one field over as many orders of the data, [size][layer] or [layer]."""
    found = [getattr(gradient_size(**given, seed=seed), field) for seed in range(count)]
    return torch.tensor(found, dtype=torch.float64).mean(0)


def test_an_examples_variance_is_unbiased_also_where_batches_are_much_of_the_data(rows):
    x, y = data(10, 400), data(10, 300, mean=1.0) / 7
    model, loss = rows(x, y)
    for sizes in ([1], [5], [2, 4, 5, 9]):  # each on its own: one may not hide behind another
        found = [
            gradient_size(model, loss, (x, y), sizes, seed=seed).deviation for seed in range(100)
        ]
        # A relative error of sqrt(2/300/100): 0.8% at most. With N for N - 1, or with a factor for
        # what is drawn from few, it is 10% or more.
        squares = torch.tensor(found, dtype=torch.float64).square().mean(0)
        for square, each in zip(squares.tolist(), (x, y), strict=True):
            assert square == pytest.approx(float(each.var(0).mean()), rel=0.03)


def test_where_batches_make_up_the_data_nothing_is_left_to_chance(rows):
    x = data(12, 5, mean=1.0)
    model, loss = rows(x, x)
    found = gradient_size(model, loss, (x, x), [1, 12], repeats=12)
    assert found.batches == [12, 1]
    assert found.mean_magnitude[0][0] == pytest.approx(float(x.abs().mean()))


def test_mean_squares_are_the_means_and_the_noises(rows):
    x, y = data(20, 400, mean=2.0), data(20, 400)
    model, loss = rows(x, y)
    sizes = [1, 4, 16, 20]
    given = {"model": model, "loss_fn": loss, "batch": (x, y), "batch_sizes": sizes}
    torch.testing.assert_close(
        gradient_size(**given).full_square, [float(e.mean(0).square().mean()) for e in (x, y)]
    )
    found = over_seeds("mean_square", 60, **given).tolist()
    for n, squares in zip(sizes, found, strict=True):
        for each, square in zip((x, y), squares, strict=True):
            noise = float(each.var(0).mean()) / n * (1 - n / 20)
            assert square == pytest.approx(float(each.mean(0).square().mean()) + noise, rel=0.04)


def test_every_batch_is_the_one_that_its_examples_make(rows):
    x = data(23, 6)
    model, loss = rows(x, x)
    seen = []

    def watched(x, y):
        seen.append(x)
        return loss(x, y)

    found = gradient_size(model, watched, (x, x), [2, 3, 7, 23], repeats=3)
    walked = torch.cat(seen)
    assert torch.equal(walked.sort(0).values, x.sort(0).values)  # each example once
    assert not torch.equal(walked, x)
    for n, count, magnitude in zip([2, 3, 7, 23], found.batches, found.mean_magnitude, strict=True):
        assert count == min(3, 23 // n)
        means = walked[: n * count].reshape(count, n, 6).mean(1)
        assert magnitude[0] == pytest.approx(float(means.abs().mean()))


def test_noise_alone_is_as_the_theory_says(rows):
    x = data(2000, 200)
    model, loss = rows(x, x)
    found = gradient_size(model, loss, (x, x), [4, 64], repeats=20)
    for n, magnitudes in zip([4, 64], found.mean_magnitude, strict=True):
        # Of 200 coordinates, 20 times: a relative error of 1.2%; the document's is larger by 41%.
        expected = mean_gradient_magnitude(found.deviation[0], n)
        assert magnitudes[0] == pytest.approx(expected, rel=0.05)


def test_expected_magnitudes_are_those_of_gaussian_noise_coordinate_by_coordinate(rows):
    # One coordinate's deviation and mean are a hundred times another's: the layer's say little.
    scale, mean = torch.logspace(-1, 1, 400), torch.logspace(-1, 1, 400).flip(0)
    noise = data(640, 400) * scale
    x = noise + mean * torch.randn(400)
    model, loss = rows(x, noise)
    given = {"model": model, "loss_fn": loss, "batch": (x, noise), "batch_sizes": [1, 16, 480, 640]}
    sizes, theory = (
        over_seeds(name, 10, **given, repeats=30)
        for name in ("mean_magnitude", "expected_magnitude")
    )
    torch.testing.assert_close(sizes[1:, 0], theory[1:, 0], rtol=0.02, atol=0)
    torch.testing.assert_close(sizes[:2, 1], theory[:2, 1], rtol=0.02, atol=0)
    deviation = over_seeds("deviation", 1, **given).tolist()[1]
    assert theory[0, 1] < 0.8 * mean_gradient_magnitude(deviation, 1)
    assert theory[-1, 0].item() == pytest.approx(float(x.mean(0).abs().mean()))


def test_no_example_is_drawn_twice(rows):
    x = torch.eye(8, dtype=torch.float64)
    model, loss = rows(x, x)
    found = gradient_size(model, loss, (x, x), [2, 4, 7], repeats=5)
    for n, square in zip([2, 4, 7], found.mean_square, strict=True):
        assert square[0] == pytest.approx(1 / (8 * n))  # n of 8 coordinates are 1/n


def test_the_batches_are_named_by_the_seed_and_differ(rows):
    x = data(30, 5)
    model, loss = rows(x, x)
    torch.manual_seed(5)
    first = gradient_size(model, loss, (x, x), [3], repeats=2)
    torch.manual_seed(6)
    assert gradient_size(model, loss, (x, x), [3], repeats=2) == first
    assert gradient_size(model, loss, (x, x), [3], repeats=2, seed=1) != first
    once = gradient_size(model, loss, (x, x), [3], repeats=1)
    assert once.mean_magnitude != first.mean_magnitude


def test_chunks_change_nothing_but_the_number_of_passes(network, batches, loss_of, passes):
    model, (batch,) = network(), batches(1, 24)
    whole = gradient_size(model, loss_of(model), batch, [2, 10, 24], repeats=3)
    assert passes.backward == 6  # up to 2, 4, 6, 10, 20 and 24: the whole data once
    chunked = gradient_size(model, loss_of(model), batch, [2, 10, 24], repeats=3, chunk=7)
    assert passes.backward == 6 + 7
    fields = ("mean_magnitude", "mean_square", "deviation", "full_square", "expected_magnitude")
    for name in fields:
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name))
    assert whole.layers == [name for name, _ in model.named_parameters()]


def test_the_whole_data_alone_says_nothing_of_the_noise(rows):
    x = data(6, 3)
    model, loss = rows(x, x)
    found = gradient_size(model, loss, (x, x), [6])
    assert found.mean_magnitude[0][0] == pytest.approx(float(x.mean(0).abs().mean()))
    assert all(math.isnan(each) for each in found.deviation)


def test_small_halves_do_not_underflow():
    model = nn.Linear(4, 1, bias=False).half()
    x = torch.full((4, 4), 1e-4).half()
    found = gradient_size(model, lambda x: (x * model.weight).sum(1).float().mean(), (x,), [1, 4])
    assert found.mean_square[1][0] == pytest.approx(1e-8, rel=0.01)


def test_nan_stays_nan(rows):
    x = data(6, 3)
    x[2, 0] = math.nan
    model, loss = rows(x, x)
    found = gradient_size(model, loss, (x, x), [2, 6])
    assert math.isnan(found.mean_square[1][0])
    assert math.isnan(found.deviation[0])


@pytest.mark.parametrize(
    ("sizes", "repeats", "message"),
    [
        ([4, 7], 1, "from 1 to the data's 6 examples, got 7: leave it out"),
        ([0], 1, "from 1 to the data's 6 examples, got 0"),
        ([2.5], 1, "whole numbers from 1 .* got 2.5"),
        ([], 1, "at least one batch size, got none"),
        ([2], 0, "at least one repeat, got repeats=0"),
    ],
)
def test_refuses(rows, sizes, repeats, message):
    x = data(6, 3)
    model, loss = rows(x, x)
    with pytest.raises(ValueError, match=message):
        gradient_size(model, loss, (x, x), sizes, repeats=repeats)


def test_refuses_chunks_of_nothing(rows):
    x = data(6, 3)
    model, loss = rows(x, x)
    with pytest.raises(ValueError, match="number of examples from 1, or None, got 0"):
        gradient_size(model, loss, (x, x), [2], chunk=0)
