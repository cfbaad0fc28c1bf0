import pytest
import torch
from torch.nn import functional

from largebatch.batching import sharp_cross_entropy


def by_hand(logits, targets, temperature):
    scaled = torch.exp(logits / temperature)
    chosen = scaled[torch.arange(len(targets)), targets]
    return -(chosen / scaled.sum(1)).log()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.1])
def test_equation(temperature):
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    found = sharp_cross_entropy(logits, targets, temperature, reduction="none")
    torch.testing.assert_close(found, by_hand(logits, targets, temperature))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    softmax = torch.softmax(logits / temperature, 1)
    expected = (softmax - functional.one_hot(targets, 4)) / temperature
    torch.testing.assert_close(gradient, expected)


def test_at_temperature_1_is_torchs_with_every_option():
    logits, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 9, 0, 1])
    options = {
        "weight": torch.tensor([1.0, 2.0, 3.0, 4.0]),
        "ignore_index": 9,
        "reduction": "sum",
        "label_smoothing": 0.2,
    }
    expected = functional.cross_entropy(logits, targets, **options)
    assert torch.equal(sharp_cross_entropy(logits, targets, 1.0, **options), expected)
    for name in options:
        if name != "ignore_index":  # class 9 of 4 is an error unless ignored
            fewer = {k: v for k, v in options.items() if k != name}
            assert sharp_cross_entropy(logits, targets, 1.0, **fewer) != expected


def test_takes_probabilities():
    logits, targets = torch.randn(5, 3), torch.softmax(torch.randn(5, 3), 1)
    expected = functional.cross_entropy(logits * 4, targets)
    torch.testing.assert_close(sharp_cross_entropy(logits, targets, 0.25), expected)


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1.5, float("nan")])
def test_refuses_a_temperature_that_is_not_sharper(temperature):
    with pytest.raises(ValueError, match=f"above 0 and at most 1, got {temperature}: above"):
        sharp_cross_entropy(torch.ones(1, 2), torch.tensor([0]), temperature)
