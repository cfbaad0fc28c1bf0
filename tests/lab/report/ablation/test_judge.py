"""The decision rule, on values whose answer is known."""

import math

import pytest
from scipy.stats import ttest_rel

from largebatch.lab.report.ablation.judge import Judged, holm, judge, p_value
from largebatch.lab.report.ablation.read import read_ablation
from largebatch.lab.report.ablation.words import headline, verdict
from largebatch.lab.report.power import pairs_to_decide


def judged(folder):
    found = read_ablation(folder)
    return judge(found), found


def said(folder):
    contrasts, found = judged(folder)
    return " ".join(headline(contrasts[0], found))


def test_differences_are_paired_by_seed_and_tested_as_scipy_does(ablation):
    contrasts, found = judged(ablation)
    for c in contrasts:
        a, b = found.arm(c.a).values, found.arm(c.b).values
        assert c.differences == {s: a[s] - b[s] for s in a}
        assert c.p == pytest.approx(ttest_rel(list(a.values()), list(b.values())).pvalue)


def test_a_difference_matters_for_the_better_or_for_the_worse(make):
    better, worse = make("better"), make("worse", means={"matched": 97.0})
    assert judged(better)[0][0].kind == judged(worse)[0][0].kind == "matters"
    assert "the direction of GNC's noise matters, for the better." in said(better)
    assert "the direction of GNC's noise matters, for the worse." in said(worse)
    less = make("less", higher_is_better=False, metric="error_percent")
    assert "matters, for the worse." in said(less)


def test_a_difference_that_is_not_worth_knowing_says_so(make):
    text = said(make(means={"matched": 91.0}, spread=0.05, detect=2.0))
    assert "matters, for the better, but by less than 2.0" in text


def test_an_interval_within_the_margin_rules_out_what_is_larger(make):
    folder = make(means={"matched": 92.0}, spread=0.1, detect=1.5)
    contrasts, found = judged(folder)
    assert contrasts[0].kind == "no matter"
    assert "no effect of the direction of GNC's noise larger than 1.5" in said(folder)
    words = verdict(contrasts[0], found.metric, found.margin)
    assert words.startswith("no difference larger than 1.5")
    assert words.endswith("points is compatible with the data")


def test_in_between_it_is_undecided_and_says_how_many_pairs_it_would_take(make):
    folder = make(means={"matched": 92.0}, spread=3.0, detect=0.5)
    contrasts, _ = judged(folder)
    first = contrasts[0]
    assert first.kind == "undecided"
    assert first.to_decide == pairs_to_decide(0.5, first.estimate.sd)
    assert first.to_decide > len(first.differences)
    assert f"would take about {first.to_decide:,} pairs" in said(folder)


def test_under_five_pairs_there_is_no_verdict(make):
    folder = make(pairs=4)
    assert [c.kind for c in judged(folder)[0]] == [""] * 6
    assert "too few pairs to say whether" in said(folder)


def test_pairs_that_diverged_are_left_out_and_named(make):
    gone = [("matched", 0), ("matched", 3), ("gnc", 5)]
    contrasts, _ = judged(make("gone", diverged=gone))
    assert (contrasts[0].lost, len(contrasts[0].differences)) == (3, 9)
    text = said(make("again", diverged=gone))
    assert "3 pairs are missing because runs diverged (1 of gnc, 2 of matched)" in text


def test_where_nothing_has_run_nothing_is_said(make):
    assert said(make(pairs=0)) == (
        "On digits nothing can be said yet: no pair of seeds has finished."
    )


def test_holm_is_the_step_down_of_the_definition():
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    adjusted = holm([0.04, 0.005, None, 0.6])
    assert adjusted[2] is None
    assert [adjusted[0], adjusted[1], adjusted[3]] == pytest.approx([0.08, 0.015, 0.6])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_other_contrasts_are_judged_together(make):
    usual = judged(make("usual"))[0][-1].estimate
    near = 2.4 * usual.sd / math.sqrt(usual.n)  # t = 2.4 of 11 degrees: p is 3.5%
    contrasts, _ = judged(make("near", means={"rnc": 92.2 + near - usual.mean}))
    alone = [c for c in contrasts[1:] if c.p < 0.05 <= c.holm]
    assert alone
    assert all(c.kind != "matters" for c in alone)
    assert all(c.kind == "matters" for c in contrasts[1:] if c.holm < 0.05)


def test_the_questions_p_is_not_adjusted_and_the_others_margin_is_stricter(ablation):
    contrasts, _ = judged(ablation)
    assert contrasts[0].holm == contrasts[0].p
    assert contrasts[0].strict == contrasts[0].estimate
    for c in contrasts[1:]:
        assert c.strict.high - c.strict.low > c.estimate.high - c.estimate.low


def test_p_values_at_the_ends():
    assert p_value([1.0]) is None
    assert p_value([1.0, 1.0]) == 0.0
    assert p_value([0.0, 0.0]) == 1.0
    assert math.isclose(p_value([1.0, 2.0, 3.0]), 0.0741799, rel_tol=1e-5)


def test_arms_with_equal_settings_share_their_runs(make):
    folder = make()
    choices = (folder / "choices.json").read_text()
    (folder / "choices.json").write_text(choices.replace("0.31", "0.56"))
    found = read_ablation(folder)
    assert found.arm("none").runs == found.arm("same-rate").runs


def test_a_contrast_without_pairs_has_no_estimate():
    assert Judged("a", "b", "it", {}, 0).estimate is None


def test_both_ends_of_the_interval_must_lie_within_the_margin(make):
    usual = judged(make("usual"))[0][0].estimate
    error = usual.sd / math.sqrt(usual.n)
    for name, t in (("above", 1.5), ("below", -1.5)):  # p is 16%, one end beyond one error
        moved = 87.0 + usual.mean - t * error
        contrasts, _ = judged(make(name, means={"matched": moved}, detect=error))
        assert contrasts[0].estimate.mean == pytest.approx(t * error)
        assert contrasts[0].kind == "undecided"
