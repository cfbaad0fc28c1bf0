"""How parameters are sorted, and that nothing but temporaries may be overwritten."""

import pytest
import torch

from largebatch.optim.bucket import buckets, norms

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


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.float32),
        ({"weight_decay": 0.1}, torch.float32),
        ({}, torch.bfloat16),
        ({"maximize": True}, torch.float32),
        ({"maximize": True}, torch.float16),
    ],
)
def test_what_is_owned_is_not_the_gradient(options, dtype):
    # Red: a gradient offered as a temporary, to be overwritten by the update.
    weight = with_gradient(2, dtype=dtype)
    [bucket] = buckets({**GROUP, **options, "params": [weight]}, "SNGM")
    shares = bucket.decayed[0].data_ptr() == weight.grad.data_ptr()
    assert not (bucket.owned and shares)
    assert bucket.owned or not options.get("weight_decay")


def test_a_sparse_gradient_is_refused_by_name():
    weight = torch.ones(10, 3)
    weight.grad = torch.ones(10, 3).to_sparse()
    with pytest.raises(TypeError, match=r"SNGM needs dense .* number 0 .*\(10, 3\).*sparse=False"):
        buckets({**GROUP, "params": [weight]}, "SNGM")
    with pytest.raises(TypeError, match=r"that of parameter 'embed.weight'"):
        buckets({**GROUP, "params": [weight], "param_names": ["embed.weight"]}, "SNGM")


def test_norms_of_halves_are_in_float32():
    [norm] = norms([torch.full((4,), 6e4, dtype=torch.float16)])
    assert norm.dtype == torch.float32
    assert norm.item() == pytest.approx(1.2e5, rel=1e-3)
