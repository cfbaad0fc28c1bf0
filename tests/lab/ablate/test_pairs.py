"""The number of pairs, from pilots that are made up."""

import math

import pytest

from largebatch.lab.ablate import ablation_for
from largebatch.lab.ablate.pairs import planned
from largebatch.lab.report.power import pairs_to_rule_out, pairs_to_see, upper


def pilot(gnc, matched, none):
    named = {"gnc": gnc, "matched": matched, "none": none}
    return {arm: {2000 + i: v for i, v in enumerate(of)} for arm, of in named.items()}


def asked(**given):
    return ablation_for("gnc", **({"max_seeds": 900} | given))


PILOT = pilot([92.0, 93.0, 94.0, 93.0], [91.0, 93.5, 93.0, 93.0], [90.0, 91.0, 90.0, 91.0])


def test_half_of_the_gain_is_worth_knowing_and_the_spread_is_an_upper_limit():
    plan = planned(asked(), PILOT, 0.2, 1)
    assert plan["pilot_gain"] == pytest.approx(2.5)
    assert plan["detect"] == pytest.approx(1.25)
    assert plan["detect_source"] == "half of the gain over none in the pilot"
    differences = [1.0, -0.5, 1.0, 0.0]
    mean = sum(differences) / 4
    sd = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3)
    assert plan["pilot_sd"] == pytest.approx(sd)
    assert plan["sd"] == pytest.approx(upper(sd, 4, 0.8))
    see, out = pairs_to_see(1.25, plan["sd"]), pairs_to_rule_out(1.25, plan["sd"])
    assert (plan["pairs_to_see"], plan["pairs_to_rule_out"]) == (see, out)
    assert plan["pairs"] == max(see, out)
    assert plan["limit"] == ""
    assert plan["power_to_see"] >= 0.8
    assert plan["power_to_rule_out"] >= 0.8


def test_where_less_is_better_a_gain_is_a_fall():
    plan = planned(asked(), PILOT, 0.0, -1)
    assert plan["pilot_gain"] == pytest.approx(-2.5)
    assert plan["detect_source"] == "a fifth of the standard deviation of none in the pilot"
    assert plan["detect"] == pytest.approx(0.2 * math.sqrt(1 / 3))


def test_without_gain_and_spread_one_test_example_is_worth_knowing():
    flat = pilot([90.0, 91.0], [90.0, 90.0], [91.0, 91.0])
    plan = planned(asked(), flat, 0.2, 1)
    assert (plan["detect"], plan["detect_source"]) == (0.2, "one test example")


def test_a_given_difference_goes_before_the_pilots():
    plan = planned(asked(detect=3.0), PILOT, 0.2, 1)
    assert (plan["detect"], plan["detect_source"]) == (3.0, "given")


def test_five_pairs_at_least_where_they_are_allowed():
    assert planned(asked(detect=100.0), PILOT, 0.2, 1)["pairs"] == 5


def test_a_cap_says_what_power_is_left():
    plan = planned(asked(max_seeds=4), PILOT, 0.2, 1)
    assert (plan["pairs"], plan["limit"]) == (4, "max_seeds")
    assert plan["pairs_to_see"] > 4
    assert 0 < plan["power_to_see"] < 0.8


def test_a_given_number_of_pairs_is_run():
    plan = planned(asked(seeds=7), PILOT, 0.2, 1)
    assert (plan["pairs"], plan["limit"]) == (7, "given")


@pytest.mark.parametrize("gnc", [[None, None, None, 93.0], [None] * 4])
def test_a_pilot_that_diverged_leaves_the_most_pairs_and_no_power(gnc):
    plan = planned(asked(), pilot(gnc, [91.0] * 4, [90.0, 91.0, 90.0, 91.0]), 0.2, 1)
    assert (plan["sd"], plan["pairs_to_see"], plan["power_to_see"]) == (None, None, None)
    assert (plan["pairs"], plan["limit"]) == (900, "the pilot gave no spread")
