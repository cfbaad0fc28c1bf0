import math
import random
from itertools import pairwise

import pytest

from largebatch.lab.report.batches import spread_out
from largebatch.lab.report.curves import focus, mean_curve, stopped_at, train_loss
from largebatch.lab.report.read import read_comparison
from largebatch.lab.report.scales import Scale, padded


def test_labels_never_overlap_and_never_leave_the_chart():
    rng = random.Random(0)
    for _ in range(200):
        wanted = [rng.uniform(0, 300) for _ in range(rng.randint(1, 20))]
        placed = spread_out(wanted, 15, 0, 300)
        ordered = sorted(placed)
        assert all(b - a >= 15 - 1e-9 for a, b in pairwise(ordered))
        assert ordered[0] >= -1e-9
        assert ordered[-1] <= 300 + 1e-9
        order = sorted(range(len(wanted)), key=wanted.__getitem__)
        assert [placed[i] for i in order] == ordered  # nobody overtakes a neighbour


@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_few_round_and_inside(log):
    rng = random.Random(1)
    for _ in range(300):
        low = 10 ** rng.uniform(-6, 4)
        scale = Scale(low, low * 10 ** rng.uniform(0.5, 5), 0, 1, log)
        ticks = scale.ticks(5)
        assert 1 <= len(ticks) <= 6
        assert all(scale.low * 0.998 <= v <= scale.high * 1.002 for v, _ in ticks)
        assert len({words for _, words in ticks}) == len(ticks)


def test_a_scale_is_monotone_and_meets_its_ends():
    scale = Scale(0.01, 10.0, 300.0, 20.0, log=True)
    assert (scale(0.01), scale(10.0)) == pytest.approx((300.0, 20.0))
    assert scale(1.0) > scale(2.0)
    assert scale(1e9) == 20.0
    assert Scale(0.0, 1.0, 0.0, 10.0, clamp=False)(2.0) == 20.0


def test_padding_never_makes_an_empty_range():
    for values in ([], [0.0], [5.0, 5.0], [1.0, 2.0]):
        low, high = padded(values)
        assert low < high


def test_focus_keeps_the_bulk_and_leaves_one_wreck_outside():
    assert focus([95.0, 94.0, 93.0, 92.0, 91.0, 10.0])[0] == 91.0
    assert focus([10.0] * 5 + [90.0]) == (10.0, 90.0)


def test_curves_are_means_with_the_range_of_the_seeds_that_got_there(make):
    folder = make(methods={"msgd": 80.0}, seeds=4, diverged=(("msgd", 1024, 2),), tuning=False)
    runs = [run for run in read_comparison(folder).final if run.batch_size == 1024]
    curve = mean_curve(runs, train_loss)
    assert [curve[0].n, curve[-1].n] == [4, 3]
    own = [dict(train_loss(run))[curve[0].x] for run in runs]
    assert curve[0].mean == pytest.approx(math.fsum(own) / 4)
    assert (curve[0].low, curve[0].high) == (min(own), max(own))
    assert [stopped_at(run, "epoch") for run in runs] == [None, None, 20.0, None]
    assert [stopped_at(run, "step") for run in runs] == [None, None, 20.0, None]
