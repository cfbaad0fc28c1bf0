"""How parameters are sorted, and which are refused."""

import pytest
import torch

from largebatch.optim.bucket import buckets

GROUP = {"weight_decay": 0.0, "maximize": False, "foreach": None}


def with_gradient(*shape, dtype=torch.float32):
    tensor = torch.ones(shape, dtype=dtype)
    tensor.grad = torch.ones_like(tensor)
    return tensor


def test_parameters_are_sorted_by_dtype_and_exclusion():
    weights = [with_gradient(2, 2), with_gradient(2), with_gradient(2, 2, dtype=torch.float64)]
    weights += [with_gradient(3, 3), torch.ones(5)]
    found = buckets({**GROUP, "params": weights, "exclude": "1d"}, "LARS")
    where = [[id(p) for p in bucket.parameters] for bucket in found]
    assert where == [[id(weights[i]) for i in each] for each in ([0, 3], [1], [2])]
    assert [bucket.excluded for bucket in found] == [False, True, False]


def test_one_bucket_a_parameter_without_foreach():
    weights = [with_gradient(2), with_gradient(2)]
    found = buckets({**GROUP, "params": weights, "foreach": False}, "SNGM")
    assert [len(bucket.parameters) for bucket in found] == [1, 1]


def test_a_sparse_gradient_is_refused_by_name():
    weight = torch.ones(10, 3)
    weight.grad = torch.ones(10, 3).to_sparse()
    with pytest.raises(TypeError, match=r"SNGM needs dense .* number 0 .*\(10, 3\).*sparse=False"):
        buckets({**GROUP, "params": [weight]}, "SNGM")
    with pytest.raises(TypeError, match=r"that of parameter 'embed.weight'"):
        buckets({**GROUP, "params": [weight], "param_names": ["embed.weight"]}, "SNGM")


def test_a_complex_parameter_is_refused_by_name():
    with pytest.raises(TypeError, match=r"SNGM needs real parameters, .* torch.complex64.*view_as"):
        buckets({**GROUP, "params": [with_gradient(2, dtype=torch.complex64)]}, "SNGM")
