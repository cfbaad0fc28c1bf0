from dataclasses import replace

import pytest
import torch
from torch import nn

from largebatch.lab.config import RunConfig, ScheduleConfig
from largebatch.lab.errors import InputError
from largebatch.lab.setup import load_task, make_schedule, make_training, plan_run


@pytest.fixture
def config(tiny):
    return RunConfig(task=tiny, batch_size=32, worker_size=8)


def rows(examples):
    return {tuple(row) for row in examples[0].tolist()}


def test_tuning_never_sees_a_test_example(config):
    data = load_task(config.task, None)[1]
    view = plan_run(replace(config, split="validation"), None).split
    assert rows(view.train) | rows(view.held_out) == rows(data.train)
    assert not rows(view.train) & rows(view.held_out)
    assert not (rows(view.train) | rows(view.held_out)) & rows(data.test)


def test_a_final_run_trains_on_all_training_examples(config):
    data = load_task(config.task, None)[1]
    view = plan_run(config, None).split
    assert torch.equal(view.train[0], data.train[0])
    assert torch.equal(view.held_out[0], data.test[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 104}, r"batch_size=104 is larger than the 96 training examples of tiny"),
        ({"batch_size": 72, "split": "validation"}, r"larger than the 64 .*choose at most 64"),
        ({"train_size": 97}, r"train_size=97, but there are 96 training examples"),
        ({"device": "abacus"}, r"unknown device 'abacus': choose 'cpu' or 'cuda'"),
        ({"device": "meta"}, r"device 'meta' is not one that runs go on"),
        ({"device": "cuda:99"}, r"device 'cuda:99' is not there: torch finds \d+ of CUDA"),
        ({"augment": "crop+flp"}, r"unknown augmentation 'flp': did you mean 'flip'"),
        ({"method": "gnc"}, r"'gnc' needs an alpha"),
        ({"method": "msgd+longer"}, r"'msgd\+longer' trains for a number of updates .*set updates"),
        (
            {"drop_last": False, "batch_size": 40},
            r"5 workers cannot share an epoch's last batch of 16 examples: choose another",
        ),
    ],
)
def test_bad_input_is_found_before_any_training(config, changes, message):
    with pytest.raises(InputError, match=message):
        plan_run(replace(config, **changes), None)


def test_one_worker_alone_has_no_noise_to_convolve_with(config):
    alone = replace(config, method="gnc", alpha=0.1, worker_size=32)
    with pytest.raises(InputError, match=r"'gnc' needs at least 2 workers, a batch of 32 over"):
        make_training(alone, plan_run(alone, None))


def test_an_optimizer_that_refuses_the_network_is_named(config):
    bad = replace(config, method="torch.optim:Muon")  # wants matrices only
    with pytest.raises(InputError, match=r"method 'torch.optim:Muon' on task 'tiny_task:task'"):
        make_training(bad, plan_run(bad, None))


def test_a_network_that_a_rule_of_ours_cannot_step_is_named(config):
    plan = plan_run(config, None)
    plan = replace(plan, task=replace(plan.task, model=lambda: nn.BatchNorm1d(4)))
    with pytest.raises(InputError, match=r"'muon' on task 'tiny_task:task': muon steps matrices"):
        make_training(replace(config, method="muon"), plan)


def test_several_optimizers_follow_one_schedule_and_share_the_workers(config):
    run = replace(config, method="muon", lr=0.4, schedule=ScheduleConfig("linear"))
    plan = plan_run(run, None)
    model, optimizers, schedulers, workers, _ = make_training(run, plan)
    assert len(optimizers) == len(schedulers) == 2
    seen = []
    for _ in range(plan.steps):
        workers.backward(lambda x: model(x).sum(), torch.ones(32, 4))
        seen.append([scheduler.get_last_lr() for scheduler in schedulers])
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
    expected = [0.4 * (1 - step / plan.steps) for step in range(plan.steps)]
    assert [muon for muon, _ in seen] == [adamw for _, adamw in seen]
    assert [rate for (rate,), _ in seen] == pytest.approx(expected)


def rates(config, schedule):
    plan = plan_run(replace(config, epochs=8), None)  # 3 steps an epoch
    shape = make_schedule(schedule, plan)
    return [shape(step) for step in range(plan.steps)]


def test_times_of_a_schedule_are_epochs(config):
    steps = ScheduleConfig("multistep", milestones=(2, 4), factor=0.1)
    found = rates(config, steps)
    assert found == pytest.approx([1.0] * 6 + [0.1] * 6 + [0.01] * 12)


def test_warm_up_starts_low_and_meets_the_shape(config):
    found = rates(config, ScheduleConfig("constant", warmup_epochs=2, warmup_start=0.25))
    assert found[0] == pytest.approx(0.25)
    assert found[:7] == sorted(found[:7])
    assert found[6:] == [1.0] * 18


def test_cosine_reaches_from_the_first_step_to_the_last(config):
    found = rates(config, ScheduleConfig("cosine"))
    assert found[0] == 1.0
    assert 0 < found[-1] < 0.01
    held = rates(config, ScheduleConfig("cosine", hold_epoch=True))
    assert held[::3] == held[1::3] == held[2::3]


def test_collapse_divides_by_five(config):
    found = rates(config, ScheduleConfig("constant", collapse_epoch=6))
    assert found == pytest.approx([1.0] * 18 + [0.2] * 6)


@pytest.mark.parametrize("kind", ["linear", "polynomial"])
def test_decays_fall_to_near_zero(config, kind):
    found = rates(config, ScheduleConfig(kind, power=2.0))
    assert found == sorted(found, reverse=True)
    assert found[0] == 1.0
    assert found[-1] < 0.1


def test_noise_is_kept_in_the_dtype_that_was_asked_for(config):
    # Red: an option that nobody reads. A half takes half the bytes.
    config = replace(config, method="gnc", alpha=0.1)
    needed = {}
    for dtype in (None, "float32", "bfloat16", "float64"):
        chosen = replace(config, noise_dtype=dtype)
        needed[dtype] = make_training(chosen, plan_run(chosen, None)).workers.bytes_needed
    own = needed[None]
    assert own > 0
    assert needed == {None: own, "float32": own, "bfloat16": own / 2, "float64": own * 2}
