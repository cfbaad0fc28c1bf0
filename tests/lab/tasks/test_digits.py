"""Bugs that turn these red: another shuffle, images torn from labels, a split that is not 1,024."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from largebatch.lab.tasks import resolve, split


def test_every_image_is_there_once_with_its_label():
    data = resolve("digits").load(None)
    inputs = torch.cat([data.train[0], data.test[0]])
    targets = torch.cat([data.train[1], data.test[1]])
    rows = torch.cat([16 * inputs.flatten(1), targets[:, None]], dim=1).int().tolist()
    pixels, classes = load_digits(return_X_y=True)
    assert sorted(rows) == sorted(np.c_[pixels, classes].astype(int).tolist())


def test_shapes_types_and_range():
    (x, y), (x_test, y_test) = (lambda d: (d.train, d.test))(resolve("digits").load(None))
    assert x.shape == (1297, 1, 8, 8)
    assert x_test.shape == (500, 1, 8, 8)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert (x.min(), x.max()) == (0, 1)
    assert y_test.bincount().min() > 35


def test_tuning_trains_on_a_whole_large_batch():
    task = resolve("digits")
    view = split(task.load(None), "validation", validation=task.validation)
    assert (len(view.train[0]), len(view.held_out[0])) == (1024, 273)
    assert task.batch_sizes == (1024,)


def test_the_shuffle_is_the_same_for_everybody_and_draws_from_nobody():
    before = torch.get_rng_state()
    data = resolve("digits").load(None)
    assert torch.equal(torch.get_rng_state(), before)
    # Pinned: another shuffle would make results of old and new runs incomparable.
    assert data.train[1][:10].tolist() == [6, 0, 8, 6, 3, 6, 8, 6, 9, 6]
    assert data.test[1][:10].tolist() == [3, 2, 9, 8, 5, 0, 4, 7, 3, 3]


def test_the_network_learns_it():
    task = resolve("digits")
    data = task.load(None)
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(6):
        for batch in torch.randperm(1297).split(task.small_batch):
            optimizer.zero_grad()
            task.loss(model(data.train[0][batch]), data.train[1][batch]).backward()
            optimizer.step()
    assert task.score(model(data.test[0]), data.test[1]).mean() > 90
