"""A batch that grows: the examples of each step, the rate of each step, what cannot be."""

from dataclasses import replace

import pytest
import torch

from largebatch.lab.batches import batches
from largebatch.lab.config import BatchesConfig, RunConfig, ScheduleConfig
from largebatch.lab.errors import InputError
from largebatch.lab.growth import doubling
from largebatch.lab.setup import make_training, plan_run


@pytest.fixture
def config(tiny):
    """96 examples; 8 a step for one epoch, 16 for two, 32 for one."""
    grown = BatchesConfig(sizes=(8, 16), until=(1.0, 3.0))
    return RunConfig(
        task=tiny, batch_size=32, worker_size=8, lr=0.3, epochs=4, batches=grown, augment="none"
    )


SIZES = [8] * 12 + [16] * 12 + [32] * 3


def test_every_epoch_has_every_example_once(config):
    drawn = list(batches(config, plan_run(config, None), 0))
    assert [len(y) for *_, y in drawn] == SIZES
    assert [step for step, *_ in drawn] == list(range(27))
    for first, last in ((0, 12), (12, 18), (18, 24), (24, 27)):
        epoch = torch.cat([x for _, x, _ in drawn[first:last]])
        assert len(epoch.unique(dim=0)) == 96


def test_a_plan_counts_what_was_consumed(config):
    plan = plan_run(config, None)
    assert plan.steps == 27
    assert [plan.examples(n) for n in (0, 1, 13, 27)] == [0, 8, 112, 4 * 96]
    assert [plan.epochs(n) for n in (6, 12, 15, 27)] == [0.5, 1.0, 1.5, 4.0]


@pytest.mark.parametrize(
    ("rule", "power"), [("kind", 1.0), ("linear", 1.0), ("sqrt", 0.5), ("none", 0.0)]
)
def test_the_rate_is_the_schedules_by_examples_times_the_rules_factor(config, rule, power):
    schedule = ScheduleConfig("linear", warmup_epochs=0.5, warmup_start=0.25)
    grown = replace(config.batches, rule=rule)
    run = replace(config, schedule=schedule, batches=grown)
    _, (optimizer,), (scheduler,), workers, _ = make_training(run, plan_run(run, None))
    examples = 0
    for size in SIZES:
        step = examples // 8  # of 48 such steps the run has
        factor = 0.25 + 0.75 * step / 6 if step < 6 else 1 - step / 48
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * factor * (size / 8) ** power)
        assert workers.count == size // 8
        examples += size
        optimizer.step()
        scheduler.step()


def test_several_optimizers_grow_together(config):
    run = replace(config, method="muon", lr=0.01, schedule=ScheduleConfig("constant"))
    _, optimizers, schedulers, workers, _ = make_training(run, plan_run(run, None))
    for size in SIZES:
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            rate = optimizer.param_groups[0]["lr"]
            assert rate == pytest.approx(0.01 * (size / 8) ** 0.5)
            optimizer.step()
            scheduler.step()
    assert workers.count == 4


def test_what_cannot_grow_says_so_before_anything_runs(config):
    cases = [
        (replace(config, drop_last=False), "use drop_last=True"),
        (replace(config, method="gnc", alpha=0.1), "needs at least 2 workers"),
        (replace(config, batches=BatchesConfig(), method="msgd+grow"), "set batches.sizes"),
        (replace(config, batches=BatchesConfig((200,), (1.0,))), "more than the data"),
        (replace(config, method="torch.optim:Adagrad"), "batches.rule"),
    ]
    for run, message in cases:
        with pytest.raises(InputError, match=message):
            make_training(run, plan_run(run, None))


def test_a_share_of_the_run_is_of_its_epochs(config):
    plan = plan_run(config, None)
    assert [plan.step_at(share) for share in (0.25, 0.5, 0.75)] == [12, 18, 24]  # epochs 1, 2, 3
    fixed = plan_run(replace(config, batches=BatchesConfig()), None)
    assert [fixed.step_at(share) for share in (0.0, 0.25, 0.75)] == [1, 3, 9]


def test_the_schedule_ends_where_the_small_batchs_does(config):
    """Whatever the large batch leaves out at an epoch's end."""
    grown = BatchesConfig(sizes=(8,), until=(1.0,))
    for train_size in (96, 90, 71):
        run = replace(
            config, batches=grown, train_size=train_size, schedule=ScheduleConfig("linear")
        )
        plan = plan_run(run, None)
        _, (optimizer,), (scheduler,), *_ = make_training(run, plan)
        for _ in range(plan.steps):
            optimizer.step()
            scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_doubling_ends_below_a_batch_that_is_no_power():
    found = doubling(64, 1000, epochs=10)
    assert found.sizes == (64, 128, 256, 512)
    assert found.until == (2.0, 4.0, 6.0, 8.0)
    assert doubling(64, 65, epochs=10) == BatchesConfig((64,), (5.0,))
