"""The networks of the lab's tasks, each a function that returns a freshly initialised module.

They draw their initial weights from torch's global generator: seed it before.
"""

from largebatch.lab.models.alexnet import AlexNet, alexnet
from largebatch.lab.models.cnn import digits_cnn, mnist_cnn
from largebatch.lab.models.normed import has_batch_norm
from largebatch.lab.models.resnet import ResNet, resnet8, resnet20, resnet32

__all__ = [
    "AlexNet",
    "ResNet",
    "alexnet",
    "digits_cnn",
    "has_batch_norm",
    "mnist_cnn",
    "resnet8",
    "resnet20",
    "resnet32",
]
