"""Tuning, with runs whose results are made up."""

import pytest

from largebatch.lab.compare.setting import Setting
from largebatch.lab.compare.tune import tune


@pytest.fixture
def tuned(ask):
    """Tunes with results that a function of the configuration makes up; choices and stages."""

    def with_results(made_up, **given):
        stages = []

        def run(name, configs):
            stages.append((name, configs))
            return [{"loss": 1.0} | made_up(config) for config in configs]

        return tune(Setting.of(ask(**given), None), run), stages

    return with_results


def far_from(lr):
    return lambda config: {"value": -abs(config.lr - lr)}


def test_one_diverged_seed_rules_a_trial_out(tuned):
    def made_up(config):
        diverged = config.lr > 0.3 and config.seed == 1001
        return {"value": None if diverged else config.lr}

    choices, _ = tuned(made_up, tuning_seeds=2, rates=3, methods=("msgd",))
    assert all(0 < choice.best.lr <= 0.3 for choice in choices)


def test_seeds_are_averaged(tuned):
    def made_up(config):  # the largest rate has the best seed, and the worse mean
        return {"value": config.lr if config.seed == 1000 else -3 * config.lr}

    choices, _ = tuned(made_up, tuning_seeds=2, rates=3, methods=("msgd",))
    assert all(c.best.lr == min(t.lr for t in c.scores) for c in choices)


def test_without_an_edge_nothing_is_widened(tuned):
    given = {"rates": 3, "alphas": 1, "widenings": 3, "methods": ("msgd",)}
    choices, stages = tuned(far_from(0.28), **given)
    assert [name for name, _ in stages] == ["Tuning"]
    assert not any(choice.at_edge for choice in choices)


def test_one_edge_gives_every_pair_as_many_trials_more(tuned):
    def made_up(config):
        return {"value": config.lr if config.method == "sngm" else -abs(config.lr - 0.28)}

    choices, stages = tuned(made_up, rates=3, alphas=2, widenings=2, methods=("sngm", "gnc"))
    assert [len(configs) for _, configs in stages] == [4 * 6, 4 * 2, 4 * 2]
    assert {len(choice.scores) for choice in choices} == {10}


def test_where_all_diverged_the_smallest_rate_is_chosen_and_the_grid_grows_below(tuned):
    choices, _ = tuned(lambda config: {"value": None}, widenings=1, methods=("msgd",))
    for choice in choices:
        assert choice.best.lr == min(trial.lr for trial in choice.scores)
        assert choice.row(1)["validation"] is None


def test_nothing_but_validation_runs(tuned):
    _, stages = tuned(far_from(0.1), widenings=2, methods=("gnc", "msgd+longer"))
    configs = [config for _, configs in stages for config in configs]
    assert {(config.split, config.seed) for config in configs} == {("validation", 1000)}
    assert len(configs) == len(set(configs))
