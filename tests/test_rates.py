import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.rates import check_optimizers, owned_parameters, rates_of


def owned(make):
    layer = nn.Linear(3, 2)
    optimizer = make(layer.parameters())
    return layer, optimizer, owned_parameters([optimizer])


def test_owned_are_the_trained_parameters_in_order_with_their_group():
    a, b, c = (nn.Parameter(torch.ones(1)) for _ in range(3))
    b.requires_grad_(False)
    first = torch.optim.SGD([{"params": [a, b], "lr": 0.5}], lr=0.1)
    second = torch.optim.Adam([c], lr=0.25)
    found = owned_parameters([first, second])
    assert [p is q for (p, _, _), q in zip(found, (a, c), strict=True)] == [True, True]
    assert [o for _, o, _ in found] == [first, second]
    assert rates_of(found, "global") == [0.5, 0.25]
    assert rates_of(found, None) == [0.5, 0.25]


def test_layer_is_the_rate_times_the_last_scale_and_zero_before_it():
    layer, optimizer, found = owned(lambda p: lb.LARS(p, lr=2.0))
    assert rates_of(found, "layer") == [0.0, 0.0]
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scales = [optimizer.state[p]["scale"].item() for p in layer.parameters()]
    assert scales[0] not in (0.0, 1.0)
    expected = [pytest.approx(2 * s) for s in scales]
    assert [float(r) for r in rates_of(found, "layer")] == expected
    assert [float(r) for r in rates_of(found, None)] == expected
    assert rates_of(found, "global") == [2.0, 2.0]


def test_none_is_global_where_the_scale_is_one_for_all():
    _, _, found = owned(lambda p: lb.SNGM(p, lr=2.0))
    assert rates_of(found, None) == [2.0, 2.0]
    assert rates_of(found, "layer") == [0.0, 0.0]


def test_refuses_layer_under_torch_optimizers():
    _, _, found = owned(torch.optim.AdamW)
    with pytest.raises(ValueError, match="AdamW does not: use rate='global'"):
        rates_of(found, "layer")


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.SparseAdam])
def test_refuses_optimizers_by_name(kind):
    with pytest.raises(TypeError, match=rf"{kind.__name__} does not work with Workers"):
        check_optimizers(kind([nn.Parameter(torch.ones(1))]))


def test_refuses_what_is_no_optimizer():
    with pytest.raises(ValueError, match="the sequence is empty"):
        check_optimizers([])
    with pytest.raises(TypeError, match=r"needs a torch.optim.Optimizer, got Linear"):
        check_optimizers([nn.Linear(1, 1)])
