"""The photographs, and the transform of the field: JPEG bytes -> uint8 [3, size, size]."""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms

SHARD_BYTES = 4_000_000  # of every road's shards


def crops(size: int) -> Callable[[bytes], torch.Tensor]:
    """Make the training transform; of size 0 nothing is decoded, where only what is read counts."""
    if not size:
        return _nothing
    crop = transforms.RandomResizedCrop(size, (0.08, 1.0))
    steps = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()])

    def transform(data: bytes) -> torch.Tensor:
        with Image.open(io.BytesIO(data)) as image:
            return steps(image.convert("RGB"))

    return transform


def _nothing(data: bytes) -> torch.Tensor:
    return torch.empty(0)


def photographs(root: Path) -> list[Path]:
    """List the photographs of the split train."""
    keys = (root / "ImageSets" / "Main" / "train.txt").read_text().split()
    return [root / "JPEGImages" / f"{key}.jpg" for key in keys]
