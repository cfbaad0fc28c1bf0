"""Every rule by name, none of them by hand: a new line in the table is tested as it stands.

Bugs that turn these red: a form or option left out, so that two names are one rule; a parameter
that no optimizer holds, or two; a rule that looks at workers and does not say so, whose workers a
comparison would then merge; a cost that is not told.
"""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch.nn.functional import mse_loss

from largebatch.lab.config import RunConfig
from largebatch.lab.methods import RULES
from largebatch.lab.setup import make_training, plan_run


@pytest.fixture
def config(tiny):
    """A network with matrices, without dropout or batch norm."""
    return RunConfig(task=tiny.replace(":task", ":plain"), batch_size=32, worker_size=32)


@pytest.fixture
def moved(config):
    """How far three steps of a rule move each parameter, in workers of a size."""

    def steps(rule, lr, worker_size=32):
        run = replace(config, method=rule, lr=lr, worker_size=worker_size)
        model, optimizers, _, workers, _ = make_training(run, plan_run(run, None))
        start = [p.detach().clone() for p in model.parameters()]
        source = torch.Generator().manual_seed(1)
        for _ in range(3):
            x, y = (torch.randn(32, d, generator=source) for d in (4, 2))
            if workers.refreshes:
                workers.refresh(lambda x, y: mse_loss(model(x), y), x, y)
            workers.backward(lambda x, y: mse_loss(model(x), y), x, y)
            for optimizer in optimizers:
                optimizer.step()
        return [p.detach() - s for p, s in zip(model.parameters(), start, strict=True)]

    return steps


def close(a, b):
    """Whether two moves are one in every parameter, rounding aside."""
    return all((m - n).norm() < 1e-2 * n.norm() for m, n in zip(a, b, strict=True))


@pytest.mark.parametrize("name", RULES)
def test_every_parameter_has_one_optimizer_with_the_runs_options(config, name):
    given = {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.02}  # none of them anyone's default
    run = replace(config, method=name, **given)
    model, optimizers, *_ = make_training(run, plan_run(run, None))
    groups = [group for each in optimizers for group in each.param_groups]
    held = [p for group in groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == set(model.parameters())
    for group in groups:
        assert {k: group.get(k, v) for k, v in given.items()} == given  # Adam has no momentum


def test_no_two_names_are_one_rule(moved):
    moves = {name: moved(name, lr=0.01, worker_size=8) for name in RULES}
    for move in moves.values():
        assert all(m.isfinite().all() and m.norm() > 0 for m in move)
    alike = [(a, b) for a, b in combinations(RULES, 2) if close(moves[a], moves[b])]
    assert alike == []


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_whether_it_looks_at_the_workers(moved, name):
    one, eight = (moved(name, RULES[name].lr, size) for size in (32, 4))
    assert close(one, eight) != RULES[name].by_worker


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_wants_the_loss_again_says_what_that_costs(config, name):
    run = replace(config, method=name)
    workers = make_training(run, plan_run(run, None)).workers
    assert workers.refreshes == (RULES[name].extra > 0)


def test_the_table_says_who_and_what_in_a_line_each():
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.summary
        assert "\n" not in rule.summary + rule.source
        assert any(c.isdigit() for c in rule.source), "a source has a year"
