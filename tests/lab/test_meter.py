import math

import pytest
import torch

from largebatch.lab.meter import RECORDS, Meter


@pytest.mark.parametrize(("steps", "evaluations"), [(79, 40), (12, 4), (5, 3), (3, 40), (1, 1)])
def test_as_many_scores_as_asked_for_the_last_step_among_them(steps, evaluations):
    meter = Meter(steps, evaluations, 0.0)
    due = [done for done in range(1, steps + 1) if meter.score_due(done)]
    assert len(due) == min(steps, evaluations)
    assert due[-1] == steps
    gaps = {b - a for a, b in zip([0, *due], due, strict=False)}
    assert max(gaps) - min(gaps) <= 1


def test_a_record_goes_with_every_score():
    meter = Meter(1000, 7, 0.0)
    due = {done for done in range(1, 1001) if meter.record_due(done)}
    assert {done for done in range(1, 1001) if meter.score_due(done)} <= due
    assert RECORDS <= len(due) <= RECORDS + 7


def test_means_since_the_last_record():
    meter = Meter(10, 1, 0.0)
    for loss in (1.0, 3.0):
        meter.add(torch.tensor(loss), torch.tensor(loss / 10))
    assert meter.take() == {"loss": 2.0, "offset_to_weight_norm": pytest.approx(0.2)}
    meter.add(torch.tensor(5.0), None)
    assert meter.take() == {"loss": 5.0}


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_one_bad_loss_is_seen(bad):
    meter = Meter(10, 1, 0.0)
    for loss in (1.0, bad, 1.0):
        meter.add(torch.tensor(loss), None)
    assert math.isnan(meter.take()["loss"])


def test_time_before_a_resume_counts():
    assert Meter(10, 1, 100.0).seconds >= 100
