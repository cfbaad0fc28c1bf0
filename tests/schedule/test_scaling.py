"""Scaling rules against published pairs of batch and rate."""

import math

import pytest

from largebatch.schedule import RULES, Scaled, scaled


@pytest.mark.parametrize(("batch", "rate"), [(4096, 3.2), (8192, 6.4)])
def test_linear_gives_gnc_s_rates(batch, rate):
    """GNC App. A.4: from 0.1 at 128, and so 0.025 at a worker's 32, to Table 4's initial rates."""
    assert scaled("linear", batch, base_batch=32, base_lr=0.025).lr == pytest.approx(rate)
    assert scaled("linear", batch, base_batch=128, base_lr=0.1).lr == pytest.approx(rate)


@pytest.mark.parametrize(("batch", "rate"), [(2048, 0.016), (4096, 0.032), (8192, 0.064)])
def test_linear_gives_gnc_s_rates_without_batch_norm(batch, rate):
    """GNC App. A.4, Fig. 3c: from the start rate 0.00025 at 32."""
    assert scaled("linear", batch, base_batch=32, base_lr=0.00025).lr == pytest.approx(rate)


def test_linear_gives_goyal_s_rate():
    """Goyal et al. 2017: 0.1 at 256 becomes 3.2 at 8,192."""
    assert scaled("linear", 8192, base_batch=256, base_lr=0.1).lr == pytest.approx(3.2)


def test_every_rule_at_a_sixteenfold_batch():
    rates = {rule: scaled(rule, 1024, 64, 0.1, 0.5) for rule in RULES}
    assert rates == {
        "linear": Scaled(pytest.approx(1.6), 0.5),
        "sqrt": Scaled(pytest.approx(0.4), 0.5),
        "log": Scaled(pytest.approx(0.5), 0.5),
        "legw": Scaled(pytest.approx(0.4), 8.0),
        "none": Scaled(pytest.approx(0.1), 0.5),
    }


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_leaves_the_base_alone(rule):
    assert scaled(rule, 96, 96, 0.3, 2.0) == Scaled(0.3, 2.0)


def test_the_logarithmic_rule_adds_the_base_rate_a_doubling():
    rates = [scaled("log", 64 * 2**n, 64, 0.1).lr for n in range(5)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_smaller_batches():
    assert scaled("linear", 32, 128, 0.1).lr == pytest.approx(0.025)
    assert scaled("sqrt", 32, 128, 0.1).lr == pytest.approx(0.05)
    with pytest.raises(ValueError, match=r"log rule needs a batch of at least base.*got 0\.25"):
        scaled("log", 32, 128, 0.1)


@pytest.mark.parametrize(
    ("given", "nearest"), [("liner", "linear"), ("LEGW", "legw"), ("logs", "log")]
)
def test_an_unknown_rule_names_the_nearest(given, nearest):
    with pytest.raises(ValueError, match=f"no scaling rule '{given}': did you mean '{nearest}'"):
        scaled(given, 64, 32, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linear", 0, 32, 0.1), "batch must be a whole number of at least 1, got 0"),
        (("linear", 64, 0.5, 0.1), "base_batch must be a whole number of at least 1, got 0.5"),
        (("linear", 64, 32, 0.0), "base_lr must be a finite number above 0, got 0.0"),
        (("sqrt", 64, 32, 0.1, -1.0), "base_warmup_epochs must be a finite number of at least 0"),
        (("legw", 64, 32, 0.1), "legw lengthens the warm-up .* use rule='sqrt'"),
    ],
)
def test_values_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        scaled(*arguments)


def test_rules_cannot_be_changed_from_outside():
    with pytest.raises(TypeError):
        RULES["mine"] = math.sqrt
