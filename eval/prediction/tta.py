"""Test-time augmentation: which crops of an image are predicted, as they are and mirrored.

flip        the centre, and its mirror image
fivecrop    the centre and the four corners of the resized image, as torchvision's FiveCrop
            cuts them
tencrop     those five and their mirror images (torchvision's TenCrop mirrors first, and so cuts
            the centre of a mirror image one pixel aside where the room beside it is odd)
multiscale  the centre at 1, 1.25 and 1.5 times the size: the same field of view with more pixels
dihedral    the centre in the 8 symmetries of a square: quarter turns, and their mirror images
"""

from dataclasses import dataclass
from typing import Literal

import torch

from shards.choices import CROP_SHARE, TestTimeName
from shards.decode.five_crop import NUM_CROPS

Reduction = Literal["mean", "max"]
SCALES = (1.0, 1.25, 1.5)


@dataclass(frozen=True)
class Look:
    """What is cut out of each image, `size` pixels across: the centre, or five crops. Decodes the
    split once.

    `crop_share` is the share of the short side that is seen: 1 of small images, which are trained
    on whole.
    """

    size: int
    five_crops: bool = False
    crop_share: float = CROP_SHARE


def looks(augmentation: TestTimeName, size: int, crop_share: float = CROP_SHARE) -> list[Look]:
    """List how often the split is decoded, and for what, for a network of `size` pixels."""
    scales = SCALES if augmentation == "multiscale" else (1.0,)
    five_crops = augmentation in ("fivecrop", "tencrop")
    return list(
        dict.fromkeys(Look(round(size * scale), five_crops, crop_share) for scale in scales)
    )


def views(images: torch.Tensor, look: Look, augmentation: TestTimeName) -> list[torch.Tensor]:
    """Split what the loader gave, uint8 [5 B or B, 3, H, W], into views of [B, 3, H, W], and mirror
    or turn them if asked.

    That is done on the device, without decoding again.
    """
    crops = list(images.chunk(NUM_CROPS)) if look.five_crops else [images]
    if augmentation in ("flip", "tencrop"):
        crops += [crop.flip(3) for crop in crops]
    if augmentation == "dihedral":
        turned = images.transpose(2, 3).contiguous(memory_format=torch.channels_last)
        crops = [each.flip(axes) for each in (images, turned) for axes in ([], [3], [2], [2, 3])]
    return crops
