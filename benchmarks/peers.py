"""The peers of bench_loader: how the same shards are usually read, each with its ordinary settings."""

import io
import os
from typing import Any

import numpy as np
import torch
import webdataset as wds
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from shards.index import DatasetIndex

SHUFFLE_SAMPLES = 1000  # webdataset's usual shuffle buffer; it holds encoded images


def augmentation(size: int, scale: tuple[float, float]) -> transforms.Compose:
    """Make the training transform of the field: PIL image -> uint8 [3, size, size]."""
    crop = transforms.RandomResizedCrop(size, scale)
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()])


class SlicedPhotos(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Map-style photographs: a slice of the tar, PIL, torchvision. No tar parsing, which favours this peer."""

    def __init__(self, index: DatasetIndex, size: int, scale: tuple[float, float]) -> None:
        self._index = index
        self._transform = augmentation(size, scale)
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        return self._index.num_samples

    def __getitem__(self, sample: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self._index.samples[sample]
        number = int(row["shard"])
        if number not in self._files:
            self._files[number] = os.open(self._index.shard_path(number), os.O_RDONLY)
        data = os.pread(self._files[number], int(row["length"][0]), int(row["offset"][0]))
        image = Image.open(io.BytesIO(data)).convert("RGB")
        labels = self._index.labels(slice(sample, sample + 1))[0].astype(np.float32)
        return self._transform(image), torch.from_numpy(labels)


class Decode:
    """What webdataset maps over its samples: (PIL image, JSON) -> (uint8 [3, size, size], float32 [K])."""

    def __init__(self, num_classes: int, size: int, scale: tuple[float, float]) -> None:
        self._num_classes = num_classes
        self._transform = augmentation(size, scale)

    def __call__(self, sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.zeros(self._num_classes)
        labels[sample["json"]["labels"]] = 1
        return self._transform(sample["jpg"]), labels


def torchvision_batches(
    index: DatasetIndex, workers: int, batch_size: int, size: int, scale: tuple[float, float]
) -> DataLoader:
    """Open a plain DataLoader over `SlicedPhotos`."""
    photos = SlicedPhotos(index, size, scale)
    return DataLoader(photos, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def webdataset_batches(
    index: DatasetIndex, workers: int, batch_size: int, size: int, scale: tuple[float, float]
) -> DataLoader:
    """Open a WebDataset pipeline that batches inside its workers, as its documentation advises."""
    urls = [str(index.shard_path(number)) for number in range(len(index.shards))]
    parts = [wds.split_by_worker, wds.tarfile_to_samples()]
    if len(urls) % max(1, workers):  # too few shards to go round: split the samples instead, so that no worker idles
        parts.reverse()
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(urls),
        *parts,
        wds.shuffle(SHUFFLE_SAMPLES),
        wds.decode("pilrgb"),
        wds.map(Decode(index.num_classes, size, scale)),
        wds.batched(batch_size, partial=True),
    )
    return DataLoader(pipeline, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
