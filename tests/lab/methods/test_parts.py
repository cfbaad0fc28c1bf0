"""Every perturbation, noise and loss by name, none of them by hand: a new line is tested as it is.

Bugs that turn these red: a parameter or a seed that does not arrive, so that nothing moves or two
names are one method; a part whose workers a comparison would merge though they matter; a cost that
is not told.
"""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from largebatch.lab.config import RunConfig
from largebatch.lab.methods import LOSSES, PARTS, PERTURBATIONS
from largebatch.lab.setup import losses_of, make_training, plan_run
from largebatch.lab.tasks import resolve

STEPS = 4


@pytest.fixture
def config(tiny):
    """A network without dropout or batch norm, a whole number of its batches."""
    return RunConfig(
        task=tiny.replace(":task", ":plain"),
        batch_size=32,
        worker_size=32,
        lr=0.3,
        momentum=0.0,
        epochs=2,
    )


@pytest.fixture
def moved(config):
    """How far a method's steps move each parameter, in workers of a size."""

    def steps(method, alpha=None, worker_size=8, seed=0):
        run = replace(config, method=method, alpha=alpha, worker_size=worker_size, seed=seed)
        model, optimizers, _, workers, loss = make_training(run, plan_run(run, None))
        for parameter in model.parameters():
            with torch.no_grad():  # the seed is of the weights too: here of the noise alone
                parameter.copy_(0.1 * torch.arange(1.0, 1 + parameter.numel()).view_as(parameter))
        start = [p.detach().clone() for p in model.parameters()]
        source = torch.Generator().manual_seed(1)
        for _ in range(STEPS):
            x = torch.randn(32, 4, generator=source)
            y = (x[:, 0] > x[:, 1]).long()
            if workers.refreshes:
                workers.refresh(lambda x, y: loss(model(x), y), x, y)
            workers.backward(lambda x, y: loss(model(x), y), x, y)
            optimizers[0].step()
        return torch.cat(
            [(p - s).flatten() for p, s in zip(model.parameters(), start, strict=True)]
        )

    return steps


def far(a, b):
    return bool((a - b).norm() > 1e-4 * b.norm())


@pytest.mark.parametrize("name", PARTS)
def test_every_part_acts_and_its_parameter_says_how_much(moved, name):
    part = PARTS[name]
    value = part.first(0.3)
    here = moved(name, value)
    assert here.isfinite().all()
    assert far(here, moved("msgd"))
    assert far(here, moved(name, value / 2))
    assert torch.equal(here, moved(f"{name}={value}"))


def test_no_two_names_are_one_method(moved):
    moves = {name: moved(name, part.first(0.3)) for name, part in PARTS.items()}
    # They part at three quarters of the run, here its fourth and fifth steps.
    assert not far(moves["gnc-rnc"], moves["gnc"])
    del moves["gnc-rnc"]
    assert [(a, b) for a, b in combinations(moves, 2) if not far(moves[a], moves[b])] == []


@pytest.mark.parametrize("name", PARTS)
def test_a_part_says_whether_it_looks_at_the_workers(moved, name):
    # Not half: with two classes gradients come in equal pairs, which rounding would tell apart.
    value = 1.5 * PARTS[name].first(0.3)
    assert far(moved(name, value, worker_size=4), moved(name, value, 16)) == PARTS[name].by_worker


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_part_says_what_it_costs(config, name):
    part = PARTS[name]
    run = replace(config, method=name, alpha=part.first(0.3), worker_size=8)
    workers = make_training(run, plan_run(run, None)).workers
    dearer = workers.refreshes or workers.perturb.passes(0) == 2
    assert dearer == (part.extra > 0)


@pytest.mark.parametrize("name", PARTS)
def test_what_draws_draws_from_the_seed(moved, name):
    value = PARTS[name].first(0.3)
    drawn = name in {"rnc", "matched", "matched-iso", "eigen", "extrap-noise", "agn", "agn-weights"}
    assert far(moved(name, value, seed=1), moved(name, value, seed=2)) == drawn


def test_losses_of_single_examples_have_to_be_known(config):
    task = resolve(config.task)
    outputs, targets = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    assert losses_of(task)(outputs, targets).mean() == pytest.approx(task.loss(outputs, targets))
    own = replace(task, losses=lambda o, t: o[:, 0])
    assert torch.equal(losses_of(own)(outputs, targets), outputs[:, 0])
    with pytest.raises(ValueError, match="has no loss of each example"):
        losses_of(replace(task, loss=lambda o, t: o.mean()))


def test_the_table_says_who_and_what_in_a_line_each():
    for name, part in PARTS.items():
        assert part.name == name
        assert part.summary
        assert "\n" not in part.summary + part.source
        assert part.centre <= part.most
        assert part.step > 1
        assert "=" not in name
        assert "+" not in name


def test_a_sharper_loss_is_cross_entropys(config):
    of = LOSSES["sharp"].build(0.5, None)
    task = resolve(config.task)
    outputs, targets = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    sharper = of(losses_of(task))(outputs, targets)
    assert sharper == pytest.approx(task.loss(2 * outputs, targets).item())
    with pytest.raises(ValueError, match="whose loss is cross entropy"):
        of(lambda outputs, targets: (outputs[:, 0] - targets).square())


def test_a_temperature_has_bounds():
    with pytest.raises(ValueError, match="above 0 and at most 1, got 0"):
        LOSSES["sharp"].build(0.0, None)
