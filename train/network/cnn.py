"""A small network for small images, in the shape that courses teach: two convolutions, three linear
layers.
"""

from typing import Any

import torch
from torch import nn

from shards.errors import DataError
from train.config import Activation

ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
# Filters of the two convolutions, width of the two hidden layers.
WIDTHS = {
    "cnn": (6, 16, 120, 84),  # PyTorch's CIFAR-10 tutorial, after LeNet-5 (LeCun et al. 1998)
    "cnn_wide": (64, 64, 384, 192),  # TensorFlow's CIFAR-10 tutorial
}
KERNEL = 5
MIN_SIZE = 16


class CNN(nn.Module):
    """Convolution 5x5, activation, max-pool 2, twice; then three linear layers: images [B, C, S, S]
    -> logits [B, K].

    Without padding, so that a side of S becomes ((S - 4) / 2 - 4) / 2: 5 x 5 places of 32 pixels.
    Dropout follows both hidden layers. Layers have the tutorials' names; `num_classes` 0 leaves out
    the last one. It knows of itself what timm's networks know: `pretrained_cfg` and
    `get_classifier`.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        size: int,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if size < MIN_SIZE:
            raise DataError(
                f"size is {size}: model {name} takes images of at least {MIN_SIZE} pixels"
            )
        filters1, filters2, hidden1, hidden2 = WIDTHS[name]
        side = size
        for _ in range(2):
            side = (side - KERNEL + 1) // 2
        self.conv1 = nn.Conv2d(in_chans, filters1, KERNEL)
        self.conv2 = nn.Conv2d(filters1, filters2, KERNEL)
        self.pool = nn.MaxPool2d(2)
        self.act = ACTIVATIONS[activation]()
        self.drop = nn.Dropout(drop_rate)
        self.fc1 = nn.Linear(filters2 * side * side, hidden1)
        self.fc2 = nn.Linear(hidden1, hidden2)
        self.fc3 = nn.Linear(hidden2, num_classes) if num_classes else nn.Identity()
        # pixels to -1 ... 1
        self.pretrained_cfg: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.act(self.conv1(images)))
        x = self.pool(self.act(self.conv2(x)))
        x = self.drop(self.act(self.fc1(x.flatten(1))))
        return self.fc3(self.drop(self.act(self.fc2(x))))

    def get_classifier(self) -> nn.Module:
        return self.fc3
