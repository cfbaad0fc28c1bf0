"""Shares of a gradient's blocks, by the equation."""

import math

import pytest
import torch
from feeding import feed

from largebatch.probes import BlockNorms

STEPS = [
    [[torch.tensor([3.0, 4.0]), torch.tensor([0.0]), torch.tensor([12.0])]],
    [[torch.tensor([1.0, 0.0]), torch.tensor([1.0]), torch.tensor([1.0])]],
]


def test_by_the_equation():
    # Red: zero blocks counted in the cosine, the last ratio for the supremum.
    probe = BlockNorms()
    feed(probe, STEPS[0])
    found = probe.result()
    assert found.ratio == found.supremum == pytest.approx(13 / 17)
    assert found.cosine == pytest.approx(17 / (math.sqrt(2) * 13))
    feed(probe, STEPS[1], factor=1e-3)
    found = probe.result()
    assert (found.ratio, found.cosine) == pytest.approx((1 / math.sqrt(3), 1.0))
    assert found.supremum == pytest.approx(13 / 17)
    assert (found.blocks, found.steps) == (3, 2)


def test_the_cosine_is_that_of_the_normalized_gradient():
    torch.manual_seed(0)
    own = [torch.randn(5, 3), torch.randn(70, 70), torch.randn(2)]
    probe = BlockNorms()
    feed(probe, [own])
    flat, normalized = (
        torch.cat([each.flatten() for each in g]) for g in (own, [g / g.norm() for g in own])
    )
    cosine = torch.cosine_similarity(flat, normalized, dim=0)
    assert probe.result().cosine == pytest.approx(float(cosine), rel=1e-5)


def test_blocks_of_several_parameters():
    probe = BlockNorms(lambda name: "late" if name != "layer0" else name)
    feed(probe, STEPS[0])
    assert probe.result().ratio == pytest.approx(13 / (5 + 12))
    assert probe.result().blocks == 2
    feed(probe, STEPS[1], step=1)
    assert probe.result().ratio == pytest.approx(math.sqrt(3) / (1 + math.sqrt(2)))


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_a_step_that_says_nothing_does_not_count(bad):
    probe = BlockNorms()
    feed(probe, STEPS[0])
    first = probe.result()
    feed(probe, [[torch.full((2,), bad), torch.full((1,), bad), torch.full((1,), bad)]], step=1)
    assert probe.result() == first


def test_every_so_many_steps():
    probe = BlockNorms(every=2)
    for step in (0, 1):
        feed(probe, STEPS[step], step=step)
    assert probe.result().steps == 1
    assert probe.result().ratio == pytest.approx(13 / 17)


def test_nothing_heard_is_an_error():
    with pytest.raises(RuntimeError, match=r"BlockNorms has heard no step .*workers\.listen"):
        BlockNorms().result()
