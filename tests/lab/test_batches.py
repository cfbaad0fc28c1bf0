from dataclasses import replace

import pytest
import torch

from largebatch.lab.batches import batches
from largebatch.lab.config import RunConfig
from largebatch.lab.setup import load_task, make_training, plan_run

METHODS = [
    ("msgd", None),
    ("lars", None),
    ("sngm+gnc", 0.1),
    ("rnc", 0.1),
    ("torch.optim:NAdam", None),
]


@pytest.fixture
def config(tiny):
    return RunConfig(task=tiny, batch_size=32, worker_size=8, epochs=3)


def drawn(config, first=0):
    """Steps, inputs and targets, and what dropout would draw in each step."""
    found = batches(config, plan_run(config, None), first)
    return [(step, x.clone(), y.clone(), torch.rand(2)) for step, x, y in found]


def same(a, b):
    return len(a) == len(b) and all(
        s == t and all(map(torch.equal, one, other))
        for (s, *one), (t, *other) in zip(a, b, strict=True)
    )


def test_methods_see_the_same_batches_and_start_from_the_same_weights(config):
    runs, weights = [], []
    for i, (method, alpha) in enumerate(METHODS):
        torch.manual_seed(i)
        made = replace(config, method=method, alpha=alpha, lr=0.1 * (i + 1))
        runs.append(drawn(made))
        model = make_training(made, plan_run(made, None)).model
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert all(same(runs[0], run) for run in runs)
    assert all(torch.equal(weights[0], w) for w in weights)


def test_workers_share_the_same_batch_however_many_they_are(config):
    assert same(drawn(config), drawn(replace(config, worker_size=32)))


def test_a_later_start_goes_on_with_the_same_batches(config):
    assert same(drawn(config)[4:], drawn(config, first=4))


def test_seeds_and_epochs_differ(config):
    a, b = drawn(config), drawn(replace(config, seed=1))
    assert not torch.equal(a[0][1], b[0][1])
    assert not torch.equal(a[0][1], a[3][1])
    assert not torch.equal(a[0][3], a[1][3])  # dropout


def test_an_epoch_is_every_example_once(config):
    config = replace(config, augment="none", drop_last=False, batch_size=28, worker_size=7)
    _, data = load_task(config.task, None)
    found = torch.cat([x for _, x, _, _ in drawn(config)[:4]])
    assert found.shape == data.train[0].shape == (96, 4)
    assert torch.equal(found.sort(dim=0).values, data.train[0].sort(dim=0).values)


def test_drop_last_leaves_the_incomplete_batch_out(config):
    sizes = [len(x) for _, x, _, _ in drawn(replace(config, batch_size=40, worker_size=8))]
    assert sizes == [40] * 6
    kept = replace(config, batch_size=40, worker_size=40, drop_last=False)
    assert [len(x) for _, x, _, _ in drawn(kept)] == [40, 40, 16] * 3


def test_updates_stand_above_epochs(config):
    assert len(drawn(replace(config, updates=5))) == 5


def test_augmentation_is_the_tasks_unless_told(config):
    with_noise, without = drawn(config), drawn(replace(config, augment="none"))
    assert torch.equal(with_noise[0][2], without[0][2])
    assert not torch.equal(with_noise[0][1], without[0][1])


def test_targets_stay_with_their_inputs(config):
    _, data = load_task(config.task, None)
    _, x, y, _ = drawn(replace(config, augment="none"))[1]
    for row, target in zip(x, y, strict=True):
        where = (data.train[0] == row).all(dim=1).nonzero().item()
        assert data.train[1][where] == target
