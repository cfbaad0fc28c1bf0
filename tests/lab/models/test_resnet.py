"""Bugs that turn these red: shortcuts with weights, wrong strides, biases, other first weights."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from largebatch.lab.models import ResNet, resnet20, resnet32


def counted(depth, classes):
    """Weights by hand: 3x3 convolutions without bias, two numbers a filter, one linear layer."""
    total, filters_in = 3 * 16 * 9 + 2 * 16, 16
    for filters in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            total += 9 * filters * (filters_in + filters) + 2 * 2 * filters
            filters_in = filters
    return total + 64 * classes + classes


@pytest.mark.parametrize(
    ("network", "depth", "classes", "millions"),
    [(resnet20, 20, 10, 0.27), (resnet32, 32, 10, 0.46), (resnet32, 32, 100, 0.47)],
)
def test_depth_and_weights_are_the_papers(network, depth, classes, millions):
    model = network(classes)
    weights = sum(p.numel() for p in model.parameters())
    assert weights == counted(depth, classes)
    assert round(weights / 1e6, 2) == millions
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules()) == depth
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, classes)


def test_maps_are_32_16_and_8_pixels():
    x, shapes = torch.rand(1, 16, 32, 32), []
    for stage in ResNet(8, 10).stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_shortcut_is_every_second_pixel_with_zeros_for_new_filters():
    block = ResNet(8, 10).stages[1][0]
    nn.init.zeros_(block.bn2.weight)  # the residual is gone: what is left is the shortcut
    x = torch.randn(2, 16, 6, 6)
    expected = torch.zeros(2, 32, 3, 3)
    expected[:, 8:24] = x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), expected.relu())


def test_block_against_its_equation():
    torch.manual_seed(0)
    block = ResNet(14, 10).stages[2][1].double()
    x = torch.randn(4, 64, 8, 8, dtype=torch.float64)

    def bn(y):
        mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), False, keepdim=True)
        return (y - mean) / (variance + 1e-5).sqrt()

    y = functional.conv2d(
        bn(functional.conv2d(x, block.conv1.weight, padding=1)).relu(),
        block.conv2.weight,
        padding=1,
    )
    torch.testing.assert_close(block(x), (x + bn(y)).relu())


def test_convolutions_start_with_variance_two_over_inputs():
    torch.manual_seed(0)
    for module in resnet20().modules():
        if isinstance(module, nn.Conv2d):
            inputs = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / inputs), rel=0.12)
            assert module.bias is None


def test_a_depth_that_is_not_6n_plus_2_is_refused():
    for depth in (2, 18, 21):
        with pytest.raises(ValueError, match=f"depth={depth}: must be 6n \\+ 2"):
            ResNet(depth, 10)
