import pytest
import torch

from largebatch.contracts import Point
from largebatch.perturb.filters import factors, filter_norms, size


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


def test_factors_are_computed_from_the_rate_of_each_weight():
    weights = [torch.full((1, 4), 0.5), torch.ones(2)]
    point = Point(0, weights, lambda kind: [0.1, 0.2])
    assert factors(point, 3.0, "plain", None) == [pytest.approx(-0.3), pytest.approx(-0.6)]
    filterwise = factors(point, 3.0, "filter", None)
    torch.testing.assert_close(filterwise[0], torch.tensor([[-0.3]]))
    assert filterwise[1] is None
