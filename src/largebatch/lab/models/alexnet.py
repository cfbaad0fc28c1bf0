"""AlexNet for 32 x 32 images (Krizhevsky, Sutskever and Hinton 2012, in its form for CIFAR).

    convolutions of 64, 192, 384, 256 and 256 filters of 3 x 3 pixels, the first one's stride 2
    max-pooling of 2 x 2 after the first, the second and the fifth: 16, 8, 4 and 2 pixels
    linear layers of 4096, 4096 and one score for each class

each but the last followed by ReLU. Gao and Zhong (CURV) train "AlexNet" on CIFAR-10 with PyTorch
and name its "first fully connected layer" (here ``classifier.1``) and its second
(``classifier.4``): that is all they say of it. The rest is decided here. Widths are those of
PyTorch's own AlexNet (Krizhevsky, "One weird trick", 2014), filters and strides what is mostly made
of it where an image has 32 pixels. Its dropout is there, and drops nothing unless asked to: the
network is then one function of its weights, whose gradient over all examples is no draw.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["AlexNet", "alexnet"]


class AlexNet(nn.Module):
    """The network of the module's head: (examples, 3, 32, 32) to scores (examples, classes).

    Weights start as PyTorch's layers do.

    Args:
        classes: how many scores an image gets.
        dropout: share of its inputs that each of the first two linear layers loses in training;
            0.5 in 2012. :func:`largebatch.batching.set_dropout` changes it later.

    Raises:
        ValueError: a share outside of 0 to 1.

    Example:
        >>> import torch
        >>> AlexNet(classes=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(self, classes: int, dropout: float = 0.0) -> None:
        """Build and initialise the network."""
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(3, 64, stride=2),
            nn.MaxPool2d(2),
            *_convolution(64, 192),
            nn.MaxPool2d(2),
            *_convolution(192, 384),
            *_convolution(384, 256),
            *_convolution(256, 256),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 2 * 2, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores of shape (examples, classes), before softmax."""
        scores: Tensor = self.classifier(self.features(images))
        return scores


def _convolution(filters_in: int, filters: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(filters_in, filters, 3, stride, padding=1), nn.ReLU()


def alexnet(classes: int = 10) -> AlexNet:
    """AlexNet for 32 x 32 images without dropout: 23,272,266 weights for 10 classes.

    Example:
        >>> sum(p.numel() for p in alexnet().parameters())
        23272266
    """
    return AlexNet(classes)
