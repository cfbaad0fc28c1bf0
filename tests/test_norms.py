import pytest
import torch

from largebatch.norms import relative_norm


def test_is_taken_over_the_weights_that_move():
    offsets = [torch.tensor([3.0, 0.0]), None, torch.tensor([[4.0]])]
    weights = [torch.tensor([6.0, 0.0]), torch.full((9,), 1e9), torch.tensor([[8.0]])]
    assert relative_norm(offsets, weights).item() == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_is_a_float32_scalar_whatever_the_weights(dtype):
    ratio = relative_norm([torch.ones(4, dtype=dtype)], [torch.full((4,), 2.0, dtype=dtype)])
    assert (ratio.shape, ratio.dtype, ratio.item()) == ((), torch.float32, 0.5)


def test_is_zero_without_offsets_or_weights():
    assert relative_norm([None], [torch.ones(2)]) == 0
    assert relative_norm([torch.ones(2)], [torch.zeros(2)]) == 0
    assert relative_norm([torch.ones(0)], [torch.zeros(0)]) == 0
