"""Two small convolutional networks without batch normalisation.

Without it a network is one function of its weights alone: what differs between two runs is the
training method and not the statistics of the batches they happened to see.
"""

from __future__ import annotations

from torch import nn

__all__ = ["digits_cnn", "mnist_cnn"]


def digits_cnn() -> nn.Sequential:
    """For images of 8 x 8 grey pixels: 6,090 weights, two strided convolutions and a linear layer.

    Maps (examples, 1, 8, 8) to scores of shape (examples, 10).

    Example:
        >>> import torch
        >>> digits_cnn()(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 10])
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, 10),
    )


def mnist_cnn() -> nn.Sequential:
    """For images of 28 x 28 grey pixels: 431,080 weights, the shape of PyTorch's example of 2019.

    Convolutions of 20 and 50 filters of 5 x 5, each followed by ReLU and 2 x 2 max-pooling, then
    linear layers of 500 and 10, no dropout. Maps (examples, 1, 28, 28) to (examples, 10).

    Example:
        >>> sum(p.numel() for p in mnist_cnn().parameters())
        431080
    """
    return nn.Sequential(
        nn.Conv2d(1, 20, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 4 * 4, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )
