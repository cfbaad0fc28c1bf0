import pytest
import torch

from largebatch.contracts import Point
from largebatch.perturb.filters import factors


def test_factors_are_computed_from_the_rate_of_each_weight():
    weights = [torch.full((1, 4), 0.5), torch.ones(2)]
    point = Point(0, weights, lambda kind: [0.1, 0.2])
    assert factors(point, 3.0, "plain", None) == [pytest.approx(-0.3), pytest.approx(-0.6)]
    filterwise = factors(point, 3.0, "filter", None)
    torch.testing.assert_close(filterwise[0], torch.tensor([[-0.3]]))
    assert filterwise[1] is None
