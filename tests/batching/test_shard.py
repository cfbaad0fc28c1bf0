from collections import namedtuple

import numpy as np
import pytest
import torch

from largebatch.batching import split_batch

Pair = namedtuple("Pair", "x y")


def test_shares_out_in_order_without_copying():
    x, y = torch.arange(12).reshape(6, 2), torch.arange(6)
    pieces = list(split_batch((x, y), 3))
    assert torch.equal(torch.cat([p[0] for p in pieces]), x)
    assert [p[1].tolist() for p in pieces] == [[0, 1], [2, 3], [4, 5]]
    assert all(p[0].untyped_storage().data_ptr() == x.data_ptr() for p in pieces)


def test_goes_into_dicts_lists_and_named_tuples_and_keeps_the_rest():
    batch = ({"ids": torch.arange(4), "more": [Pair(torch.arange(4), "name"), None]}, True)
    first, second = split_batch(batch, 2)
    assert second[0]["ids"].tolist() == [2, 3]
    (pair, none), flag = second[0]["more"], second[1]
    assert isinstance(pair, Pair)
    assert (pair.x.tolist(), pair.y, none, flag) == ([2, 3], "name", None, True)
    assert first[0]["ids"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("batch", "count", "message"),
    [
        ((torch.ones(10),), 4, "count=4 workers cannot share a batch of 10: .* drop_last=True"),
        ((torch.ones(2),), 3, "count=3 workers cannot share a batch of 2"),
        ((torch.ones(0, 3),), 1, "count=1 workers cannot share a batch of 0"),
        ((torch.ones(2), torch.ones(4)), 2, r"got first dimensions \[2, 4\]"),
        (({"x": torch.ones(2)}, [torch.ones(4)]), 2, r"got first dimensions \[2, 4\]"),
        (("text", None), 2, "got no tensor"),
        ((), 2, "got no tensor"),
        ((torch.ones(()),), 1, "a tensor without dimensions"),
    ],
)
def test_refuses_batches(batch, count, message):
    with pytest.raises(ValueError, match=message):
        list(split_batch(batch, count))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.arange(4), "got a ndarray that is no tensor: pass tensors"),
        ({"labels": np.arange(4)}, "got a ndarray that is no tensor"),
        ([np.arange(2), torch.arange(4)], "got a ndarray that is no tensor"),
        (["a", "b", "c", "d"], "got a list of 4, one for each example: pass tensors"),
        ({"names": (1, 2, 3, 4)}, "got a tuple of 4, one for each example"),
    ],
)
def test_refuses_what_would_go_whole_to_every_piece(value, message):
    with pytest.raises(TypeError, match=message):
        list(split_batch((torch.arange(4), value), 2))


@pytest.mark.parametrize("value", [np.float32(3), [1, 2], "text", torch.float32, np.ndarray])
def test_what_is_the_same_for_all_goes_to_every_piece(value):
    assert [piece[1] for piece in split_batch((torch.arange(4), value), 2)] == [value, value]
