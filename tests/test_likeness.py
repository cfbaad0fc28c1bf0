"""What processes compare of what they were given: of ours every field, of others the type."""

from dataclasses import dataclass, field

import pytest

import largebatch as lb
from largebatch.likeness import described, digest


@dataclass
class Own:
    """A class of somebody else's, with what may be its process's own."""

    rank: int = 0
    kind: type = lb.GNC
    back: list = field(default_factory=list)


@pytest.mark.parametrize(
    "other",
    [
        lb.GNC(0.2),
        lb.RNC(0.1),
        lb.RNC(0.1, seed=1),
        lb.Switch(lb.GNC(0.1), lb.RNC(0.1), at_step=3),
        lb.Switch(lb.GNC(0.1), lb.RNC(0.1, seed=2), at_step=3),
        lb.AnnealedNoise(0.1, seed=1),
        Own(),
        None,
    ],
)
def test_what_differs_is_told_apart(other):
    assert digest(described(lb.GNC(0.1))) == digest(described(lb.GNC(0.1)))
    assert digest(described(other)) != digest(described(lb.GNC(0.1)))


def test_of_others_the_type_counts():
    cycle = Own(rank=1)
    cycle.back.append(cycle)
    assert described(Own(kind=lb.RNC)) == described(cycle) == "Own"


def test_a_digest_is_a_whole_number_in_float64():
    assert int(float(digest("a"))) == digest("a") < 2**48
