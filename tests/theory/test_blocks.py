"""Bugs that turn these red: a norm for a sum, S for √S, a zero block counted as one."""

from math import inf, sqrt

import pytest
import torch

from largebatch.theory import block_cosine, block_ratio


def random_blocks(seed):
    source = torch.Generator().manual_seed(seed)
    scales = torch.logspace(-2, 2, 5)[torch.randperm(5, generator=source)]
    sizes = (1, 3, 10, 2, 40)[: seed % 5 + 1]
    return [
        scales[i] * torch.randn(n, generator=source, dtype=torch.float64)
        for i, n in enumerate(sizes)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_cosine_is_that_of_the_two_directions(seed):
    blocks = random_blocks(seed)
    whole = torch.cat(blocks)
    parts = torch.cat([b / b.norm() for b in blocks])
    cosine = float(torch.dot(whole, parts) / (whole.norm() * parts.norm()))
    norms = [float(b.norm()) for b in blocks]
    assert block_cosine(norms) == pytest.approx(cosine, rel=1e-12)
    ratio = float(whole.norm()) / sum(norms)
    assert block_ratio(norms) == pytest.approx(ratio, rel=1e-12)
    assert 1 / sqrt(len(norms)) - 1e-12 <= block_ratio(norms) <= 1
    assert block_cosine(norms) == pytest.approx(1 / (sqrt(len(norms)) * block_ratio(norms)))


def test_both_ends_are_reached():
    for blocks in (1, 2, 7, 1000):
        assert block_ratio([0.1] * blocks) == pytest.approx(1 / sqrt(blocks))
        assert block_cosine([0.1] * blocks) == pytest.approx(1)
        assert block_ratio([3.0] + [0.0] * (blocks - 1)) == 1
    assert block_cosine([1e8, 1.0, 1.0, 1.0]) == pytest.approx(0.5)


def test_a_zero_block_has_no_direction():
    # g = (3, 4, 0), n = (1, 1, 0)
    assert block_cosine([3.0, 4.0, 0.0]) == pytest.approx(7 / (sqrt(2) * 5))


def test_tiny_norms_do_not_underflow():
    assert block_ratio([3e-200, 4e-200]) == pytest.approx(5 / 7)


@pytest.mark.parametrize("function", [block_ratio, block_cosine])
def test_what_has_no_direction_is_refused(function):
    for norms in ([], [0.0, 0.0]):
        with pytest.raises(ValueError, match="at least one block needs a gradient, got the norms"):
            function(norms)
    for wrong in (-1.0, inf, float("nan")):
        with pytest.raises(ValueError, match="a block's norm must be finite and at least 0"):
            function([1.0, wrong])
