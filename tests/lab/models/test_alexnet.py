"""Bugs that turn these red: another width or stride, a pooling lost, dropout on unasked."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

import largebatch as lb
from largebatch.lab.models import AlexNet, alexnet


def counted(classes):
    """Weights by hand: filters of 3 x 3 with a bias each, then the three linear layers."""
    widths = (3, 64, 192, 384, 256, 256)
    convolutions = sum(9 * a * b + b for a, b in pairwise(widths))
    units = (256 * 2 * 2, 4096, 4096, classes)
    return convolutions + sum(a * b + b for a, b in pairwise(units))


@pytest.mark.parametrize("classes", [10, 100])
def test_weights_and_scores(classes):
    model = AlexNet(classes)
    assert sum(p.numel() for p in model.parameters()) == counted(classes)
    assert model(torch.rand(3, 3, 32, 32)).shape == (3, classes)


def test_maps_are_16_8_4_and_2_pixels():
    x, shapes = torch.rand(1, 3, 32, 32), []
    for layer in AlexNet(10).features:
        x = layer(x)
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            shapes.append(tuple(x.shape[1:]))
    maps = [(64, 16), (64, 8), (192, 8), (192, 4), (384, 4), (256, 4), (256, 4), (256, 2)]
    assert shapes == [(filters, pixels, pixels) for filters, pixels in maps]


def test_the_layers_that_the_document_names():
    with torch.device("meta"):
        model = AlexNet(10)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes["classifier.1.weight"] == (4096, 1024)  # "first fully connected layer"
    assert shapes["classifier.4.weight"] == (4096, 4096)  # "second fully connected layer"


def test_it_is_its_equation():
    torch.manual_seed(0)
    model, x = alexnet(), torch.randn(2, 3, 32, 32)
    p = list(model.parameters())

    def convolved(y, i, stride=1):
        return functional.conv2d(y, p[2 * i], p[2 * i + 1], stride, padding=1).relu()

    y = functional.max_pool2d(convolved(x, 0, stride=2), 2)
    y = functional.max_pool2d(convolved(y, 1), 2)
    y = convolved(convolved(convolved(y, 2), 3), 4)
    y = functional.max_pool2d(y, 2).reshape(2, 1024)
    for i in (5, 6):
        y = (y @ p[2 * i].T + p[2 * i + 1]).relu()
    assert model.training
    torch.testing.assert_close(model(x), y @ p[14].T + p[15], atol=1e-6, rtol=1e-4)


def test_dropout_drops_both_layers_inputs_in_training_alone():
    torch.manual_seed(0)
    model, seen = AlexNet(10, dropout=0.5), {}
    for name in ("1", "4"):
        layer = model.classifier.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0]}))
    x = torch.randn(4, 3, 32, 32)

    def zeros():
        model(x)
        return [float((each == 0).float().mean()) for each in seen.values()]

    model.eval()
    off = zeros()
    model.train()
    on = zeros()
    # Of what ReLU left, half is dropped.
    assert [(1 - a) / (1 - b) for a, b in zip(on, off, strict=True)] == pytest.approx(
        [0.5, 0.5], abs=0.05
    )


def test_a_few_steps_tell_bright_images_from_dark_ones():
    torch.manual_seed(0)
    model, y = alexnet(), torch.arange(4) % 2
    x = 0.1 * torch.randn(4, 3, 32, 32) + 2 * (2 * y - 1)[:, None, None, None]
    optimizer = lb.SNGM(model.parameters(), lr=0.2, momentum=0.0)
    for _ in range(12):
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # A network that does not see its images gets no further than ln 2 = 0.69.
    assert loss.item() < 0.5
