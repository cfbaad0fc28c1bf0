"""Bugs that turn these red: unpaired examples accepted, a score that is already a mean."""

import dataclasses

import pytest
import torch
from torch import nn

from largebatch.lab.tasks import Data, Task, TaskError, accuracy_percent


def a_task(**changes):
    return Task(**{"name": "t", "title": "T", "load": None, "model": None} | changes)


def test_accuracy_is_a_hundred_or_nothing_for_each_example():
    outputs, targets = torch.randn(50, 7), torch.randint(7, (50,))
    naive = [
        100.0 if max(range(7), key=lambda c: o[c]) == t else 0.0
        for o, t in zip(outputs, targets, strict=True)
    ]
    assert accuracy_percent(outputs, targets).tolist() == naive


def test_scores_of_chunks_add_up_to_the_metric():
    task = a_task()
    outputs, targets = torch.randn(10, 3), torch.randint(3, (10,))
    whole = task.score(outputs, targets)
    parts = [task.score(outputs[c], targets[c]) for c in (slice(0, 7), slice(7, 10))]
    assert torch.equal(torch.cat(parts), whole)
    loss = task.loss(outputs, targets)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(outputs, targets))


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(("inputs", "targets"), [(3, 2), (0, 0)])
def test_examples_without_their_targets_are_refused(part, inputs, targets):
    good = torch.zeros(2, 4), torch.zeros(2)
    bad = torch.zeros(inputs, 4), torch.zeros(targets)
    message = f"{part} data has {inputs} inputs and {targets} targets: must be as many targets"
    with pytest.raises(TaskError, match=message):
        Data(**{"train": good, "test": good} | {part: bad})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": 0.0}, "task 't': validation=0.0 must be a share between 0 and 1"),
        ({"validation": 1.0}, "task 't': validation=1.0 must be a share"),
        ({"epochs": 0}, "task 't': epochs=.* must be at least 1"),
        ({"small_batch": 0}, "task 't': small_batch=.* must be at least 1"),
        ({"batch_sizes": ()}, "task 't': batch_sizes=.* must be at least 1"),
        ({"batch_sizes": (8, 0)}, "task 't': batch_sizes=.* must be at least 1"),
    ],
)
def test_defaults_no_run_could_use_are_refused(change, message):
    with pytest.raises(TaskError, match=message):
        a_task(**change)


def test_a_task_cannot_change_under_a_run():
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_task().epochs = 3


def test_errors_are_value_errors():
    assert issubclass(TaskError, ValueError)
