"""A torch DataLoader with Pillow over tarmac's own shards: a slice of the tar, no tar parsing,
which favours it.
"""

import io

import numpy as np
import torch
from PIL import Image
from reading import Reading
from torch.utils.data import DataLoader, Dataset

from roads.folder import augmentation
from shards.index import DatasetIndex
from shards.pipeline.reader import ShardReader


class SlicedPhotos(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Sample number -> (uint8 [3, size, size], float32 [C])."""

    def __init__(self, reading: Reading) -> None:
        self._index = DatasetIndex.open(reading.data)
        self._reader = ShardReader(self._index)
        self._transform = augmentation(reading)

    def __len__(self) -> int:
        return self._index.num_samples

    def __getitem__(self, sample: int) -> tuple[torch.Tensor, torch.Tensor]:
        data = self._reader.member(self._index.samples[sample], 0)
        labels = self._index.labels(slice(sample, sample + 1))[0].astype(np.float32)
        return self._transform(
            Image.open(io.BytesIO(data.tobytes())).convert("RGB")
        ), torch.from_numpy(labels)


def batches(reading: Reading) -> DataLoader:
    """Open a shuffling DataLoader whose workers stay from epoch to epoch."""
    photos, workers = SlicedPhotos(reading), reading.workers
    return DataLoader(
        photos,
        reading.global_batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
