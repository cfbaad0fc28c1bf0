import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.batching import discard_small_gradients


def with_gradient(gradient):
    parameter = nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient.clone()
    return parameter


@pytest.mark.parametrize(
    ("size", "keep", "kept"),
    [
        (10, 0.7, 7),
        (10, 0.9, 9),
        (11, 0.7, 8),
        (3, 0.1, 1),
        (10, 1e-15, 1),
        (1, 0.01, 1),
        (7, 1.0, 7),
        (0, 0.5, 0),
    ],
)
def test_keeps_the_largest_share_exactly(size, keep, kept):
    gradient = torch.randn(size, dtype=torch.float64)
    parameter = with_gradient(gradient)
    discard_small_gradients([parameter], keep)
    largest = sorted(range(size), key=lambda i: -abs(gradient[i]))[:kept]
    expected = [float(gradient[i]) if i in largest else 0.0 for i in range(size)]
    assert parameter.grad.tolist() == expected


def test_a_share_near_one_is_exact_too():
    # Red: 1 - keep, whose rounding is no longer small beside it.
    parameter = with_gradient(torch.arange(1.0, 1_000_001.0))
    discard_small_gradients(parameter, 0.99999)
    assert int((parameter.grad == 0).sum()) == 10


def test_ties_leave_an_exact_number():
    # Red: a threshold, which keeps all that are equal to it or none.
    parameter = with_gradient(torch.ones(1000) * torch.tensor([1.0, -1.0]).repeat(500))
    discard_small_gradients(parameter, 0.3)
    assert torch.equal(parameter.grad != 0, torch.arange(1000) < 300)


def test_each_tensor_has_its_own_share():
    # Red: one threshold over all layers, which empties those with small gradients.
    small, large = with_gradient(torch.full((4,), 1e-6)), with_gradient(torch.arange(1.0, 5.0))
    without = nn.Parameter(torch.ones(2))
    discard_small_gradients([small, without, large], 0.5)
    assert int((small.grad != 0).sum()) == 2
    assert large.grad.tolist() == [0, 0, 3, 4]
    assert without.grad is None


def test_any_memory_format_in_place():
    gradient = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    plain, other = with_gradient(gradient.contiguous()), with_gradient(gradient)
    kept = other.grad
    for each in (plain, other):
        discard_small_gradients([each], 0.25)
    assert torch.equal(plain.grad, other.grad)
    assert other.grad is kept
    assert int((kept != 0).sum()) == 24


def test_what_is_not_a_number_shows():
    parameter = with_gradient(torch.tensor([1.0, float("nan"), 5.0, 0.1]))
    discard_small_gradients([parameter], 0.25)
    assert parameter.grad.isnan().tolist() == [False, True, False, False]


def test_between_combine_and_the_step():
    model = nn.Linear(8, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    workers = lb.Workers(model, optimizer, count=2)
    kept = model.weight.detach().clone()
    workers.backward(lambda x: model(x).sum(), torch.arange(16.0).view(2, 8))
    discard_small_gradients(model.parameters(), 0.5)
    optimizer.step()
    assert ((model.weight != kept).flatten()).tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.1, float("nan")])
def test_refuses_a_share_out_of_range(keep):
    with pytest.raises(ValueError, match=f"above 0 and at most 1, got keep={keep}"):
        discard_small_gradients([], keep)


def test_refuses_sparse_gradients_and_changes_nothing():
    dense = with_gradient(torch.tensor([1.0, 2.0]))
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match=r"dense gradients, got a sparse one: .* sparse=False"):
        discard_small_gradients([dense, embedding.weight], 0.5)
    assert dense.grad.tolist() == [1, 2]


def test_refuses_sharded_gradients_by_name():
    class DTensor(torch.Tensor):
        """What the real one is called."""

    parameter = nn.Parameter(torch.ones(2).as_subclass(DTensor))
    parameter.grad = torch.ones(2).as_subclass(DTensor)
    with pytest.raises(TypeError, match=r"whole gradients, got a DTensor: .* without sharding"):
        discard_small_gradients([parameter])
