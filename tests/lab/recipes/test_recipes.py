"""Published settings: the documents' figures, copied here by value."""

import dataclasses

import pytest
import torch
from torch import nn

from largebatch.lab.config import ScheduleConfig
from largebatch.lab.errors import InputError
from largebatch.lab.growth import steps_of
from largebatch.lab.methods import RunFacts, parse
from largebatch.lab.recipes import RECIPES, recipe
from largebatch.lab.setup import Plan, make_schedule, make_training
from largebatch.lab.tasks import Split, Task, names, resolve

EXAMPLES = {"digits": 1297, "mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
EXAMPLES |= {"cifar10-resnet32": 50_000, "cifar10-alexnet": 50_000}


def plan_without_data(config):
    """The plan of a run on as many examples as the real data has, none of them there."""
    task: Task = dataclasses.replace(resolve(config.task), model=lambda: nn.Linear(2, 2))
    examples = EXAMPLES[config.task]
    none = torch.zeros(1, 2).expand(examples, 2), torch.zeros(1).long().expand(examples)
    grown = steps_of(config, examples) if config.batches.sizes else ()
    batch = grown[0].size if grown else config.batch_size
    whole, rest = divmod(examples, batch)
    per_epoch = whole + bool(rest and not config.drop_last)
    steps = len(grown) or config.epochs * per_epoch
    return Plan(task, Split(none, none), batch, per_epoch, steps, None, grown)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_start(name):
    config = recipe(name)
    assert config.task in names()
    parse(config.method).built(config.alpha, RunFacts(seed=0, step_at=lambda share: 1))
    plan = plan_without_data(config)
    schedule = make_schedule(config.schedule, plan)
    rates = [schedule(step) for step in range(plan.clock)]
    peak = max(1, config.schedule.factor)
    assert all(0 < rate <= peak for rate in rates)
    assert max(rates) == pytest.approx(peak, rel=0.01)
    assert make_training(config, plan).workers.count == config.count


# GNC's Table 4 (rates), Table 5 (alpha of RNC and of GNC), Appendix A
GNC = [
    ("cifar10", 4096, 3.2, 0.01, 0.1),
    ("cifar10", 8192, 6.4, 0.01, 0.1),
    ("cifar100", 4096, 3.2, 0.001, 0.1),
    ("cifar100", 8192, 6.4, 0.01, 0.1),
]


@pytest.mark.parametrize(("data", "batch", "lr", "rnc", "gnc"), GNC)
def test_gnc(data, batch, lr, rnc, gnc):
    for method, alpha in (("msgd", None), ("rnc", rnc), ("gnc", gnc)):
        config = recipe(f"{method}-{data}-{batch}")
        assert (config.method, config.batch_size, config.lr) == (method, batch, lr)
        assert config.alpha == alpha
        assert (config.epochs, config.momentum, config.weight_decay) == (160, 0.9, 1e-4)
        assert config.worker_size == 32
        assert config.augment == "crop+flip+erase"
        assert config.task == {"cifar10": "cifar10-resnet32"}.get(data, data)
        plan = plan_without_data(config)
        schedule = make_schedule(config.schedule, plan)
        rate = [lr * schedule(epoch * plan.steps_per_epoch) for epoch in range(160)]
        assert rate[0] == pytest.approx(0.025)
        assert rate[5] == pytest.approx((0.025 + lr) / 2)
        assert rate[10] == rate[79] == lr
        assert rate[80] == rate[119] == pytest.approx(lr / 10)
        assert rate[120] == rate[159] == pytest.approx(lr / 100)


def test_gncs_networks_are_resnet_32():
    for name in ("gnc-cifar10-4096", "gnc-cifar100-8192"):
        model = resolve(recipe(name).task).model()
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.46e6, rel=0.03)


@pytest.mark.parametrize("batch", [128, 1024, 2048, 4096, 8192])
def test_sngm(batch):
    for method in ("msgd", "sngm"):
        config = recipe(f"{method}-cifar10-resnet20-{batch}")
        assert (config.method, config.batch_size, config.task) == (method, batch, "cifar10")
        assert (config.epochs, config.momentum, config.weight_decay) == (160, 0.9, 1e-4)
        assert config.worker_size == 128
        assert config.schedule == ScheduleConfig("cosine", hold_epoch=True)


@pytest.mark.parametrize("batch", [1024, 2048, 4096, 8192, 16384])
def test_agn(batch):
    config = recipe(f"agn-mnist-{batch}")
    assert (config.task, config.batch_size, config.epochs) == ("mnist", batch, 15)
    assert (config.momentum, config.weight_decay, config.drop_last) == (0.5, 0.0, False)
    assert config.schedule.kind == "constant"


def test_agns_noise_and_full_batches():
    assert (recipe("agn-mnist-16384-noise").lr, recipe("agn-mnist-16384-noise").alpha) == (0.1, 0.3)
    plain, noise = recipe("agn-mnist-full"), recipe("agn-mnist-full-noise")
    assert (noise.method, noise.alpha, plain.method, plain.alpha) == ("agn", 1.0, "msgd", None)
    assert dataclasses.replace(noise, method="msgd", alpha=None) == plain
    assert (plain.batch_size, plain.lr, plain.epochs) == (EXAMPLES["mnist"], 0.01, 100)


def rates_and_batches(config):
    """The rate that the optimizer has, and the batch, at the first step of each epoch."""
    plan = plan_without_data(config)
    training, found = make_training(config, plan), {}
    for step in range(plan.steps):
        epoch, _, size = plan.at(step)
        found.setdefault(epoch, (training.optimizers[0].param_groups[0]["lr"], size))
        training.optimizers[0].step()
        for scheduler in training.schedulers:
            scheduler.step()
    return found


def test_curvs_first_epoch_is_of_512_at_0_005_and_then_as_the_baseline():
    plain, small = recipe("curv-cifar10-8192"), recipe("curv-cifar10-8192-small-first")
    first = dataclasses.replace(small, epochs=3)
    assert rates_and_batches(first) == {
        0: (pytest.approx(0.005), 512), 1: (pytest.approx(0.05), 8192),
        2: (pytest.approx(0.05), 8192),
    }  # fmt: skip
    as_plain = {"lr": plain.lr, "batches": plain.batches, "schedule": plain.schedule}
    assert dataclasses.replace(small, **as_plain) == plain
    assert set(rates_and_batches(dataclasses.replace(plain, epochs=2)).values()) == {(0.05, 8192)}
    assert plain.task == "cifar10-alexnet"


@pytest.mark.parametrize("batch", [2000, 8000])
def test_curv_discards_30_percent_of_the_whole_batch_for_100_epochs(batch):
    plain, hard = recipe(f"curv-cifar10-{batch}"), recipe(f"curv-cifar10-{batch}-hard")
    assert (hard.method, hard.alpha, hard.count, hard.epochs) == ("hard", 0.3, 1, 100)
    assert dataclasses.replace(hard, method="msgd", alpha=None) == plain
    assert (plain.batch_size, plain.task) == (batch, "cifar10-alexnet")


def test_names_say_what_and_no_two_are_alike():
    assert all(name == r.name for name, r in RECIPES.items())
    assert len({r.config.name() for r in RECIPES.values()}) == len(RECIPES)


def test_an_unknown_recipe_gives_the_nearest():
    with pytest.raises(InputError, match="unknown recipe 'gnc-cifar10-409': did you mean 'gnc-"):
        recipe("gnc-cifar10-409")
