"""Against the mean of a batch's hardest examples, as training takes it."""

import math

import pytest
import torch
from torch import nn

from largebatch.batching import hard_examples
from largebatch.probes import discarded_gradient


def losses_of(model):
    return lambda x, y: nn.functional.cross_entropy(model(x), y, reduction="none")


def oracle(model, batch, share):
    loss = hard_examples(losses_of(model)(*batch), share / 100)
    return [float(g.abs().mean()) for g in torch.autograd.grad(loss, list(model.parameters()))]


def test_what_is_left_has_the_gradient_of_the_largest_losses(weights):
    x = torch.tensor([[1.0, 4.0], [3.0, -1.0], [2.0, 2.0], [6.0, 0.0]], dtype=torch.float64)
    level = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64)
    model = weights(a=torch.zeros(2))
    found = discarded_gradient(model, lambda x, c: c + x @ model.a, (x, level), [0, 25, 50, 99])
    assert found.mean_magnitude == [
        [pytest.approx((3.0 + 1.25) / 2)],
        [pytest.approx((3.0 + 2.0) / 2)],  # without the second
        [pytest.approx((1.5 + 3.0) / 2)],  # the first and the third
        [pytest.approx((1.0 + 4.0) / 2)],  # one is always kept
    ]
    assert found.layers == ["a"]


@pytest.mark.parametrize("norm", [False, True])
def test_is_what_training_on_hard_examples_would_see(network, batches, norm):
    model, (batch,) = network(norm=norm), batches(1, 20)
    model.insert(2, nn.Dropout(0.3))  # its masks must be those that ranked the losses
    shares = [0, 10, 29, 50, 90]
    expected = []
    for share in shares:
        torch.manual_seed(4)
        expected.append(oracle(model, batch, share))
    torch.manual_seed(4)
    found = discarded_gradient(model, losses_of(model), batch, shares)
    torch.testing.assert_close(found.mean_magnitude, expected)


def test_losses_are_ranked_over_the_whole_batch_and_not_in_chunks(network, batches, passes):
    model, (batch,) = network(), batches(1, 20)
    whole = discarded_gradient(model, losses_of(model), batch, [0, 40, 90])
    assert passes.backward == 3  # one a share
    chunked = discarded_gradient(model, losses_of(model), batch, [0, 40, 90], chunk=6)
    assert passes.backward == 3 + 3 * 4
    torch.testing.assert_close(chunked.mean_magnitude, whole.mean_magnitude)


def test_random_numbers_are_the_same_in_every_look_also_in_chunks(network, batches):
    model, (batch,) = network(), batches(1, 20)
    model.insert(2, nn.Dropout(0.5))
    found = discarded_gradient(model, losses_of(model), batch, [30, 30], chunk=5)
    assert found.mean_magnitude[0] == found.mean_magnitude[1]


def test_a_share_of_whole_examples_is_discarded_whole(weights):
    # 29/100*100 is 28.999999999999996, and nearly 100% of a few examples is all of them.
    x = torch.arange(100.0, dtype=torch.float64).unsqueeze(1)
    model = weights(a=torch.ones(1))
    found = discarded_gradient(model, lambda x: x @ model.a, (x,), [29, math.nextafter(100, 0)])
    assert found.mean_magnitude == [[pytest.approx((29 + 99) / 2)], [99.0]]


def test_of_equal_losses_the_earlier_are_kept(weights):
    x = torch.tensor([[1.0], [2.0], [4.0], [8.0]], dtype=torch.float64)
    model = weights(a=torch.zeros(1))
    found = discarded_gradient(model, lambda x: x @ model.a, (x,), [50])
    assert found.mean_magnitude == [[1.5]]


def test_nan_stays_nan(weights):
    x = torch.tensor([[1.0], [math.nan], [4.0], [8.0]], dtype=torch.float64)
    model = weights(a=torch.ones(1))
    found = discarded_gradient(model, lambda x: x @ model.a, (x,), [0, 75])
    assert all(math.isnan(each[0]) for each in found.mean_magnitude)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([10, 100], "below 100, got 100: at 100 nothing"),
        ([-1], "0 or more and below 100, got -1"),
        ([math.nan], "below 100, got nan"),
        ([], "at least one share to discard, got none"),
    ],
)
def test_refuses_shares(network, batches, shares, message):
    model, (batch,) = network(), batches(1, 8)
    with pytest.raises(ValueError, match=message):
        discarded_gradient(model, losses_of(model), batch, shares)


def test_refuses_a_loss_that_is_a_mean_already(network, batches, loss_of):
    model, (batch,) = network(), batches(1, 8)
    with pytest.raises(
        ValueError, match=r"shape \(8,\), got \(\): compute it with reduction='none'"
    ):
        discarded_gradient(model, loss_of(model), batch)
