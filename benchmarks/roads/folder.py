"""A torch DataLoader over JPEG files, with torchvision's decoding and transforms.

`folder pillow` is torchvision's ImageFolder with vectors for labels: Pillow decodes, crops and
resizes. `folder decode_jpeg` keeps to tensors: torchvision.io.decode_jpeg, then transforms.v2 on
uint8.
"""

from pathlib import Path

import torch
from photographs import Photographs
from reading import Reading
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import pil_loader
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2


def augmentation(reading: Reading) -> transforms.Compose:
    """Make the training transform of the field: PIL image -> uint8 [3, size, size]."""
    crop = transforms.RandomResizedCrop(reading.size, reading.scale)
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()])


def tensor_augmentation(reading: Reading) -> v2.Compose:
    """Make the same transform for tensors: uint8 [3, H, W] -> uint8 [3, size, size], antialiased as
    well.
    """
    return v2.Compose(
        [
            v2.RandomResizedCrop(reading.size, reading.scale, antialias=True),
            v2.RandomHorizontalFlip(),
        ]
    )


class Folder(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Sample number -> (uint8 [3, size, size], float32 [C])."""

    def __init__(self, reading: Reading) -> None:
        photographs = Photographs(Path(reading.data))
        self._paths = [str(path) for path in photographs.paths]
        self._labels = torch.from_numpy(photographs.labels)
        self._pillow = reading.variant == "pillow"
        self._transform = augmentation(reading) if self._pillow else tensor_augmentation(reading)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        path = self._paths[number]
        image = (
            pil_loader(path) if self._pillow else decode_jpeg(read_file(path), ImageReadMode.RGB)
        )
        return self._transform(image), self._labels[number]


def batches(reading: Reading) -> DataLoader:
    """Open a shuffling DataLoader whose workers stay from epoch to epoch."""
    workers = reading.workers
    return DataLoader(
        Folder(reading),
        reading.global_batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
