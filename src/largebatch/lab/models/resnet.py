"""Residual networks for 32 x 32 images (He et al., "Deep Residual Learning", 2016, section 4.2).

A 3 x 3 convolution of 16 filters; three stages of n blocks with 16, 32 and 64 filters on maps of
32, 16 and 8 pixels; the mean over the map; one linear layer: 6n + 2 layers with weights. A block is

    y = relu(shortcut(x) + bn(conv(relu(bn(conv(x))))))

and its shortcut has no weights: the identity, or where a stage begins every second pixel with
zeros for the new filters (their option A). Convolutions have no bias.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResNet", "resnet8", "resnet20", "resnet32"]


class _Block(nn.Module):
    def __init__(self, filters_in: int, filters: int) -> None:
        super().__init__()
        self.stride = 1 if filters_in == filters else 2
        self.new_filters = filters - filters_in
        self.conv1 = nn.Conv2d(filters_in, filters, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.new_filters == 0:
            return x
        before = self.new_filters // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, before, self.new_filters - before))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(self._shortcut(x) + residual)


class ResNet(nn.Module):
    """The network of the module's head: (examples, 3, 32, 32) to scores (examples, classes).

    Convolutions are drawn as in He et al. 2015, equation 10: normal, variance 2 / (inputs of a
    unit). The linear layer, which no ReLU follows, starts as PyTorch's does.

    Args:
        depth: layers with weights, 6n + 2: 20, 32, 44, 56 and 110 in the paper.
        classes: how many scores an image gets.

    Raises:
        ValueError: where depth is not 6n + 2 for an n of at least 1.

    Example:
        >>> import torch
        >>> ResNet(8, classes=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(self, depth: int, classes: int) -> None:
        """Build and initialise the network."""
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth={depth}: must be 6n + 2 (8, 14, 20, 26, 32, ...)")
        blocks = (depth - 2) // 6
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.stages = nn.Sequential(_stage(16, 16, blocks), _stage(16, 32, blocks))
        self.stages.append(_stage(32, 64, blocks))
        self.linear = nn.Linear(64, classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of shape (examples, classes), before softmax."""
        maps = self.stages(functional.relu(self.bn(self.conv(images))))
        return cast(Tensor, self.linear(maps.mean(dim=(2, 3))))


def _stage(filters_in: int, filters: int, blocks: int) -> nn.Sequential:
    first = _Block(filters_in, filters)
    return nn.Sequential(first, *(_Block(filters, filters) for _ in range(blocks - 1)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def resnet8(classes: int = 10) -> ResNet:
    """ResNet-8: 75,290 weights for 10 classes, 81,140 for 100; of the family, what a CPU trains.

    Example:
        >>> sum(p.numel() for p in resnet8(classes=100).parameters())
        81140
    """
    return ResNet(8, classes)


def resnet20(classes: int = 10) -> ResNet:
    """ResNet-20: 269,722 weights for 10 classes (0.27 M in He et al. 2016, table 6).

    Example:
        >>> sum(p.numel() for p in resnet20().parameters())
        269722
    """
    return ResNet(20, classes)


def resnet32(classes: int = 10) -> ResNet:
    """ResNet-32: 464,154 weights for 10 classes (0.46 M in He et al. 2016), 470,004 for 100.

    Example:
        >>> sum(p.numel() for p in resnet32(classes=100).parameters())
        470004
    """
    return ResNet(32, classes)
