import pytest
import torch

from largebatch.filters import filter_norms, size


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (4, 2, 3, 3), (2, 0), (0, 3)])
def test_norm_of_each_slice(shape):
    weight = torch.randn(shape, dtype=torch.float64)
    (norm,) = filter_norms([weight])
    assert norm.shape == (shape[0],) + (1,) * (len(shape) - 1)
    for p in range(shape[0]):
        assert norm[p].item() == pytest.approx((weight[p] ** 2).sum().sqrt().item(), abs=1e-15)


def test_weights_of_fewer_than_two_dimensions_have_no_filters():
    assert filter_norms([torch.ones(3), torch.ones(())]) == [None, None]


def test_does_not_depend_on_the_memory_format():
    weight = torch.randn(4, 3, 2, 2)
    last = weight.to(memory_format=torch.channels_last)
    torch.testing.assert_close(size(weight), size(last))
