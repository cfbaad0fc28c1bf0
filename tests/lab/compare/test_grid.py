import itertools
import math

import pytest

from largebatch.lab.compare.grid import Trial, at_edges, first_trials, more_trials
from largebatch.lab.methods import LOSSES, NOISES, PARTS, PERTURBATIONS, RULES

FIXED = ["gnc=0.1", "gnc+agn=0.01"]
METHODS = [*RULES, *PARTS, *FIXED, "sngm+gnc", "torch.optim:NAdam", "msgd+longer"]


def far_apart(trials):
    """Whether no two trials are practically the same."""
    return all(
        abs(math.log(a.lr / b.lr)) > 0.005 or abs(math.log((a.alpha or 1) / (b.alpha or 1))) > 0.005
        for a, b in itertools.combinations(trials, 2)
    )


@pytest.mark.parametrize(
    ("rates", "alphas"), list(itertools.product((1, 2, 3, 5), (1, 2, 3, 9, 12)))
)
def test_every_method_starts_with_the_same_number_of_different_trials(rates, alphas):
    for method in METHODS:
        trials = first_trials(method, rates, alphas)
        assert len(trials) == rates * alphas
        assert far_apart(trials)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("choose", [min, max, lambda ts, key: sorted(ts, key=key)[len(ts) // 2]])
def test_grids_grow_by_the_same_number_of_new_trials_wherever_the_best_lies(method, choose):
    tried = first_trials(method, 3, 3)
    for round_number in range(1, 7):
        best = choose(tried, key=lambda t: (t.lr, t.alpha))
        tried = [*tried, *more_trials(method, tried, best, 3)]
        assert len(tried) == 9 + 3 * round_number
        assert far_apart(tried)


@pytest.mark.parametrize(("place", "edge", "factor"), [(-1, "lr+", 2), (0, "lr-", 1 / 2)])
def test_at_an_edge_the_rates_go_one_coarse_step_further(place, edge, factor):
    for method in ("sngm", "sngm+gnc"):
        tried = first_trials(method, 3, 3)
        best = tried[place] if method == "sngm" else tried[place + 1 if place == 0 else -2]
        assert edge in at_edges(best, tried)
        rates = [t.lr for t in more_trials(method, tried, best, 3)]
        furthest = max(rates) if factor > 1 else min(rates)
        assert furthest == pytest.approx(best.lr * factor, rel=2e-3)
        assert all((rate - best.lr) * (factor - 1) > 0 for rate in rates)


@pytest.mark.parametrize(("place", "factor"), [(3, 1 / 3), (5, 3)])
def test_at_an_edge_of_alpha_the_alphas_go_one_step_further(place, factor):
    tried = first_trials("gnc", 3, 3)
    best = tried[place]
    found = more_trials("gnc", tried, best, 3)
    assert [t.alpha for t in found] == pytest.approx([best.alpha * factor] * 3, rel=2e-3)
    assert len({t.lr for t in found}) == 3


def test_within_the_grid_the_new_trials_lie_around_the_best():
    for method in ("lars", "rnc"):
        tried = first_trials(method, 3, 3)
        best = tried[4]
        for trial in more_trials(method, tried, best, 3):
            assert 0.49 < trial.lr / best.lr < 2.01
            assert trial != best


def test_coarse_rates_are_a_factor_of_two_apart_around_the_rules_centre():
    centre = RULES["sngm"].lr
    rates = sorted({t.lr for t in first_trials("sngm", 3, 1)})
    assert rates == pytest.approx([centre / 2, centre, centre * 2], rel=1e-3)


def test_finer_rates_are_evenly_spread_where_no_alpha_is_searched():
    rates = [t.lr for t in first_trials("msgd", 3, 3)]
    steps = [math.log2(b / a) for a, b in itertools.pairwise(rates)]
    assert steps == pytest.approx([1 / 3] * 8, abs=2e-3)
    assert {t.alpha for t in first_trials("msgd", 3, 3)} == {None}


def test_alphas_are_a_step_apart_around_the_parts_centre():
    for method, centre, step in (
        ("sngm+gnc", PERTURBATIONS["gnc"].centre / RULES["sngm"].lr, 3),
        ("sngm+sam", PERTURBATIONS["sam"].centre, 3),
        ("sngm+agn", NOISES["agn"].centre, 5),
        ("sngm+gnc=0.1+agn", NOISES["agn"].centre, 5),
    ):
        alphas = sorted({t.alpha for t in first_trials(method, 3, 3)})
        assert alphas == pytest.approx([centre / step, centre, centre * step], rel=1e-3)


def test_no_alpha_is_beyond_the_most_that_has_a_meaning():
    most = LOSSES["hard"].most
    tried = first_trials("hard", 3, 7)
    assert max(t.alpha for t in tried) == most
    best = max(tried, key=lambda t: t.alpha)
    assert "alpha+" not in at_edges(best, tried, most)
    assert "alpha+" in at_edges(best, tried)
    more = more_trials("hard", tried, best, 12)
    assert len(more) == 12
    assert max(t.alpha for t in more) <= most


def test_edges():
    trials = [Trial(lr, alpha) for lr in (1.0, 2.0, 4.0) for alpha in (0.1, 0.3, 0.9)]
    assert at_edges(Trial(2.0, 0.3), trials) == set()
    assert at_edges(Trial(4.0, 0.3), trials) == {"lr+"}
    assert at_edges(Trial(1.0, 0.9), trials) == {"lr-", "alpha+"}
    assert at_edges(Trial(1.0, None), [Trial(1.0, None)]) == set()  # nothing was searched


def test_rates_can_be_typed_again():
    for method in METHODS:
        for trial in first_trials(method, 5, 3):
            assert float(f"{trial.lr:.4g}") == trial.lr


def test_a_foreign_rule_whose_default_says_nothing_of_the_task_is_searched_widely():
    method = "torch.optim:SGD"  # its default rate is 0.001; tuned ones lie near 0.1 to 1
    tried = first_trials(method, 3, 3)
    for _ in range(2):
        tried = [*tried, *more_trials(method, tried, max(tried, key=lambda t: t.lr), 3)]
    assert max(t.lr for t in tried) > 1
    assert min(t.lr for t in tried) < 1e-4
