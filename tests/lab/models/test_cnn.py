"""Bugs that turn these red: another width or stride, a batch norm or dropout, a dead layer."""

import pytest
import torch
from torch import nn

from largebatch.lab.models import digits_cnn, mnist_cnn

NETWORKS = [(digits_cnn, 8, 160 + 4640 + 1290), (mnist_cnn, 28, 520 + 25050 + 400500 + 5010)]


@pytest.mark.parametrize(("network", "size", "weights"), NETWORKS)
def test_size_and_scores(network, size, weights):
    model = network()
    assert sum(p.numel() for p in model.parameters()) == weights
    assert model(torch.rand(3, 1, size, size)).shape == (3, 10)


@pytest.mark.parametrize(("network", "size", "weights"), NETWORKS)
def test_it_is_a_function_of_weights_and_image_alone(network, size, weights):
    model, images = network().double(), torch.rand(4, 1, size, size, dtype=torch.float64)
    assert not list(model.buffers())
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone)


@pytest.mark.parametrize(("network", "size", "weights"), NETWORKS)
def test_every_weight_learns_and_layers_are_not_merely_linear(network, size, weights):
    torch.manual_seed(0)
    model, images = network(), torch.rand(64, 1, size, size)
    nn.functional.cross_entropy(model(images), torch.arange(64) % 10).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    zero = model(torch.zeros_like(images))
    assert not torch.allclose(model(images) - zero, -(model(-images) - zero), atol=1e-4)


@pytest.mark.parametrize(("network", "size", "weights"), NETWORKS)
def test_the_global_seed_decides_the_weights(network, size, weights):
    def drawn(seed):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(network().parameters())

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
