import dataclasses
import json
import math

import pytest

from largebatch.lab.config import (
    FORMAT,
    BatchesConfig,
    RunConfig,
    ScheduleConfig,
    from_dict,
    override,
    to_dict,
)
from largebatch.lab.errors import InputError

OTHER = {  # for every field a value that is not its default
    "task": "mnist",
    "method": "sngm+gnc",
    "batch_size": 128,
    "worker_size": 32,
    "lr": 0.1 + 1e-9,  # the readable part of the name is the same
    "alpha": 0.5,
    "momentum": 0.8,
    "weight_decay": 0.0,
    "epochs": 41,
    "updates": 7,
    "schedule": ScheduleConfig(milestones=(1.0, 2.5)),
    "batches": BatchesConfig(rule="sqrt"),
    "seed": 1,
    "split": "validation",
    "train_size": 100,
    "drop_last": False,
    "augment": "none",
    "evaluations": 3,
    "refresh_every": 4,
    "refresh_examples": 32,
    "noise_dtype": "bfloat16",
    "device": "cuda",
    "threads": 2,
    "checkpoint_seconds": 1.0,
    "probes": ("gradient_cosine@epoch",),
    "keep": "epoch",
}


def test_json_round_trip():
    for config in (RunConfig(), RunConfig(**OTHER)):
        assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_every_field_is_in_this_test():
    assert {*OTHER, "format"} == {f.name for f in dataclasses.fields(RunConfig)}


@pytest.mark.parametrize("key", OTHER)
def test_names_differ_wherever_configurations_differ(key):
    assert RunConfig(**{key: OTHER[key]}).name() != RunConfig().name()


@pytest.mark.parametrize("field", dataclasses.fields(ScheduleConfig))
def test_names_differ_wherever_schedules_differ(field):
    other = {"kind": "linear", "milestones": (3.0,), "hold_epoch": True, "collapse_epoch": 9.0}
    schedule = ScheduleConfig(**{field.name: other.get(field.name, 0.125)})
    assert RunConfig(schedule=schedule).name() != RunConfig().name()


def test_names_differ_wherever_batches_differ():
    made = [
        BatchesConfig(),
        BatchesConfig((8,), (1.0,)),
        BatchesConfig((16,), (1.0,)),
        BatchesConfig((8,), (2.0,)),
        BatchesConfig((8,), (1.0,), "none"),
    ]
    assert len({RunConfig(worker_size=8, batches=each).name() for each in made}) == len(made)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sizes": [8]}, r"batches.sizes has 1 stages and batches.until 0 ends"),
        ({"sizes": [0], "until": [1.0]}, r"batches.sizes must be at least 1 each, got \[0\]"),
        ({"sizes": [8], "until": [0.0]}, r"batches.until must rise from above 0, got \[0.0\]"),
        ({"sizes": [8, 9], "until": [2.0, 2.0]}, r"batches.until must rise"),
        ({"sizes": [8], "until": [float("inf")]}, r"batches.until must rise"),
        ({"rule": "cubic"}, r"batches.rule='cubic'"),
    ],
)
def test_stages_of_a_batch_have_sizes_and_ends(values, message):
    with pytest.raises(InputError, match=message):
        from_dict({"batches": values})


def test_a_batch_that_grows_has_no_number_of_updates():
    with pytest.raises(InputError, match="leave updates null"):
        RunConfig(worker_size=8, batches=BatchesConfig((8,), (1.0,)), updates=7)


def test_workers_share_every_stage():
    with pytest.raises(InputError, match="worker_size=64 cannot share a stage of 32"):
        RunConfig(batches=BatchesConfig((32,), (1.0,)))


def test_the_number_of_workers_is_the_smallest_batchs():
    grown = BatchesConfig((32, 64), (1.0, 2.0))
    assert RunConfig(batch_size=128, worker_size=16, batches=grown).count == 2


def test_a_name_is_a_folder_name_that_stays_the_same():
    name = RunConfig(method="torch.optim:NAdam+gnc", alpha=0.1).name()
    assert name.startswith("torch.optim_NAdam+gnc-b64-lr0.1-alpha0.1-s0-")
    assert name == RunConfig(method="torch.optim:NAdam+gnc", alpha=0.1).name()
    assert "/" not in RunConfig(method="a/../b:C").name()


def test_what_is_not_given_is_the_default():
    assert from_dict({}) == RunConfig()
    assert from_dict({"schedule": {"kind": "linear"}}).schedule == ScheduleConfig("linear")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batchsize": 1}, r"unknown key 'batchsize': did you mean 'batch_size'"),
        ({"schedule": {"warmup": 1}}, r"unknown key 'schedule.warmup': did you mean 'warmup_"),
        ({"epochs": True}, r"epochs must be a whole number, got True"),
        ({"epochs": 2.0}, r"epochs must be a whole number, got 2.0"),
        ({"lr": "0.1"}, r"lr must be a number, got '0.1'"),
        ({"lr": True}, r"lr must be a number, got True"),
        ({"lr": None}, r"lr must be a number, got None"),
        ({"drop_last": 1}, r"drop_last must be true or false, got 1"),
        ({"task": 3}, r"task must be a text, got 3"),
        ({"updates": "many"}, r"updates must be a whole number, got 'many'"),
        ({"schedule": 5}, r"schedule must be keys and values, got 5"),
        ({"schedule": {"milestones": 3}}, r"schedule.milestones must be a list, got 3"),
        ({"schedule": {"milestones": ["a"]}}, r"schedule.milestones must be a number, got 'a'"),
        ({"split": "train"}, r"split='train': known: test, validation"),
        ({"schedule": {"kind": "cosin"}}, r"schedule.kind='cosin': did you mean 'cosine'"),
        ({"format": FORMAT + 1}, rf"format {FORMAT + 1}, this version .* reads format {FORMAT}"),
        ({"format": "1"}, r"the config has format '1'"),
        ({"format": True}, r"format must be a whole number"),
        ({"epochs": 0}, r"epochs must be at least 1, got 0"),
        ({"refresh_every": 0}, r"refresh_every must be at least 1, got 0"),
        ({"refresh_examples": 0}, r"refresh_examples must be at least 1, got 0"),
        ({"updates": 0}, r"updates must be at least 1 or null, got 0"),
        ({"worker_size": 48}, r"worker_size=48 cannot share batch_size=64: choose"),
        ({"lr": math.nan}, r"lr must be 0 or more and finite, got nan"),
        ({"lr": -1.0}, r"lr must be 0 or more"),
        ({"weight_decay": math.nan}, r"weight_decay must be 0 or more and finite, got nan"),
        ({"momentum": math.inf}, r"momentum must be 0 or more and finite"),
        ({"alpha": -0.1}, r"alpha must be 0 or more and finite, got -0.1"),
        ({"seed": -1}, r"seed must be 0 or more and less than 2\^63, got -1"),
        ({"seed": 2**63}, r"seed must be 0 or more and less than 2\^63"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        from_dict(values)


def test_a_file_of_something_else():
    with pytest.raises(InputError, match=r"a config is a JSON object .* got \[1, 2\]"):
        from_dict([1, 2])


def test_set_parses_values_and_reaches_parts():
    pairs = {
        "schedule.kind": "multistep",
        "schedule.milestones": "[1, 2.5]",
        "lr": "3e-2",
        "method": "torch.optim:NAdam",
        "drop_last": "False",
        "alpha": "None",
        "updates": "null",
    }
    schedule = ScheduleConfig("multistep", milestones=(1.0, 2.5))
    made = override(RunConfig(), pairs)
    expected = RunConfig(lr=0.03, method="torch.optim:NAdam", schedule=schedule, drop_last=False)
    assert made == expected


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("schedul.kind", r"unknown key 'schedul.kind': did you mean 'schedule'"),
        ("schedule.knd", r"unknown key 'schedule.knd': did you mean 'kind'"),
        ("lr.x", r"'lr.x' names nothing in a config: 'lr' has no parts"),
        ("schedule.kind.x", r"'schedule.kind.x' names nothing in a config: 'kind' has no parts"),
        ("", r"unknown key ''"),
    ],
)
def test_set_of_an_unknown_key(key, message):
    with pytest.raises(InputError, match=message):
        override(RunConfig(), {key: "1"})


def test_setting_one_key_leaves_the_start_as_it_was():
    start = RunConfig()
    override(start, {"schedule.kind": "linear", "lr": "1"})
    assert start == RunConfig()
