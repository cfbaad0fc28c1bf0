import pytest
import torch

from largebatch.contracts import Perturbation, Point


def test_point_looks_each_kind_of_rate_up_once():
    asked = []

    def rates(kind):
        asked.append(kind)
        return [0.1 if kind == "global" else 0.2]

    point = Point(3, [torch.ones(1)], rates)
    assert [point.rates("global"), point.rates("layer"), point.rates("global")] == [
        [0.1],
        [0.2],
        [0.1],
    ]
    assert asked == ["global", "layer"]


def test_once_keeps_even_none_and_tells_names_apart():
    point, calls = Point(0, [], lambda kind: []), []
    for name in ("a", "a", "b"):
        assert point.once(name, lambda name=name: calls.append(name)) is None
    assert calls == ["a", "b"]


def test_a_perturbation_remembers_nothing_unless_it_says_so():
    class Still(Perturbation):
        def offsets(self, point, worker, memory):
            return [None] * len(point.weights)

    assert (Still().remembers(0), Still().least_workers) == ("nothing", 1)
    with pytest.raises(TypeError, match="abstract"):
        Perturbation()
