"""Two networks joined before the classifier: one sees red, green and blue, the other the further
bands.
"""

import torch
from torch import nn

from shards.errors import DataError
from train.network.filters import RGB


class Joined(nn.Module):
    """Images [B, 3 + E, H, W] -> logits [B, K]: pooled features of both networks side by side,
    dropout, linear.

    `rgb` takes the first three channels, `extra` the other E; each gives features [B, F] of images
    of `size` pixels.
    """

    def __init__(
        self,
        rgb: nn.Module,
        extra: nn.Module,
        num_extra: int,
        num_classes: int,
        size: int,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.rgb = rgb
        self.extra = extra
        width = _num_features(rgb, RGB, size) + _num_features(extra, num_extra, size)
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(width, num_classes)
        self.pretrained_cfg = getattr(rgb, "pretrained_cfg", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.cat([self.rgb(images[:, :RGB]), self.extra(images[:, RGB:])], dim=1)
        return self.head(self.drop(features))

    def get_classifier(self) -> nn.Module:
        return self.head

    def set_grad_checkpointing(self, enable: bool) -> None:
        """Compute the activations of both networks a second time instead of keeping them."""
        for network in (self.rgb, self.extra):
            network.set_grad_checkpointing(enable)  # type: ignore[operator]


@torch.no_grad()
def _num_features(backbone: nn.Module, num_channels: int, size: int) -> int:
    """Look at what comes out: networks name the width of their pooled features in different ways."""
    backbone.eval()
    features = backbone(torch.zeros(1, num_channels, size, size))
    backbone.train()
    if not torch.is_tensor(features) or features.ndim != 2:
        raise DataError(
            "fusion is late, but this model has no pooled features of its own: give --fusion "
            "early, or another --model"
        )
    return features.shape[1]
