import pytest
import torch

from largebatch.batching import DiscardUntil, hard_examples


def by_hand(losses, dropped):
    """The mean of all but the ``dropped`` smallest, by Python's own sort."""
    kept = sorted(losses.flatten().tolist())[dropped:]
    return sum(kept) / len(kept)


@pytest.mark.parametrize(
    ("count", "discard", "dropped"),
    [
        (10, 0.3, 3),
        (11, 0.3, 3),
        (13, 0.3, 3),
        (2, 0.3, 0),
        (1, 0.99, 0),
        (7, 0.0, 0),
        (100, 0.29, 29),  # 0.29 * 100 is a little less than 29
        (100, 0.57, 57),
        (10, 0.999999999999999, 9),
    ],
)
def test_is_the_mean_of_the_largest(count, discard, dropped):
    losses = torch.randn(count, dtype=torch.float64)
    found = hard_examples(losses, discard)
    assert found.ndim == 0
    torch.testing.assert_close(float(found), by_hand(losses, dropped))


def test_gradient_is_the_kept_examples_alone():
    losses = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0], dtype=torch.float64, requires_grad=True)
    hard_examples(losses, 0.4).backward()
    third = 1 / 3
    expected = torch.tensor([third, 0, 0, third, third], dtype=torch.float64)
    torch.testing.assert_close(losses.grad, expected)


def test_of_equal_losses_the_earlier_are_kept():
    losses = torch.ones(1000, requires_grad=True)
    hard_examples(losses, 0.3).backward()
    assert torch.equal(losses.grad != 0, torch.arange(1000) < 700)


def test_discarding_nothing_is_the_mean_to_the_bit():
    losses = torch.randn(1001)
    assert torch.equal(hard_examples(losses, 0.0), losses.mean())


def test_every_element_is_an_example():
    losses = torch.tensor([[1.0, 8.0], [2.0, 4.0]])
    assert hard_examples(losses, 0.5) == 6.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(value):
    losses = torch.tensor([9.0, value, 1.0, 2.0])
    found = hard_examples(losses, 0.75)
    assert torch.equal(found, torch.tensor(value)) or found.isnan()
    assert not found.isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_averaged_in_float32(dtype):
    losses = (torch.rand(5000) + 1000).to(dtype)  # whose sum is beyond float16
    found = hard_examples(losses, 0.5)
    assert found.dtype == torch.float32
    expected = by_hand(losses.double(), 2500)
    torch.testing.assert_close(float(found), expected, rtol=1e-6, atol=0)


def test_float64_stays():
    assert hard_examples(torch.ones(3, dtype=torch.float64)).dtype == torch.float64


def test_nothing_is_read_on_the_host():
    losses = torch.empty(10, device="meta", requires_grad=True)
    hard_examples(losses, 0.3).backward()
    assert losses.grad.shape == (10,)


def test_compiles_whole():
    compiled = torch.compile(hard_examples, backend="eager", fullgraph=True)
    losses = torch.randn(20)
    assert torch.equal(compiled(losses, 0.3), hard_examples(losses, 0.3))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_refuses_a_loss_that_is_a_mean_already(shape):
    with pytest.raises(ValueError, match=r"own loss, got .* shape \(.*compute .* reduction='none'"):
        hard_examples(torch.zeros(shape))


@pytest.mark.parametrize("share", [-0.1, 1.0, 30, float("nan")])
def test_refuses_a_share_out_of_range(share):
    with pytest.raises(ValueError, match=f"0 or more and below 1, got {share}"):
        hard_examples(torch.ones(3), share)
    with pytest.raises(ValueError, match=f"0 or more and below 1, got {share}"):
        DiscardUntil(3, share)


def test_discards_until_a_step():
    discard = DiscardUntil(2, 0.4)
    assert [discard(t) for t in range(4)] == [0.4, 0.4, 0.0, 0.0]
    assert DiscardUntil(0)(0) == 0.0


def test_refuses_a_negative_step():
    with pytest.raises(ValueError, match="step >= 0, got step=-1"):
        DiscardUntil(-1)
