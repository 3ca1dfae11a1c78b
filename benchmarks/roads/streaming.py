"""MosaicML Streaming: MDS shards of the JPEG bytes as they are, Pillow and torchvision in
DataLoader workers.
"""

from pathlib import Path
from typing import Any

import torch
from photographs import Photographs
from reading import Reading
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

from roads.folder import augmentation


class Crops(StreamingDataset):
    """Sample number -> (uint8 [3, size, size], float32 [C])."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(local=reading.data, shuffle=True, batch_size=reading.global_batch_size)
        self._transform = augmentation(reading)

    def __getitem__(self, number: Any) -> Any:
        sample = super().__getitem__(number)
        return self._transform(sample["image"].convert("RGB")), torch.from_numpy(
            sample["labels"].copy()
        )


def prepare(root: Path, out: Path, variant: str) -> None:
    """Write MDS shards; its JPEG encoding copies the file of an image that Pillow has opened."""
    photographs = Photographs(root)
    columns = {"image": "jpeg", "labels": f"ndarray:float32:{photographs.labels.shape[1]}"}
    with MDSWriter(out=str(out), columns=columns) as writer:
        for number, labels in enumerate(photographs.labels):
            with photographs.image(number) as image:
                writer.write({"image": image, "labels": labels})


def batches(reading: Reading) -> DataLoader:
    """Open the shards where they lie."""
    clean_stale_shared_memory()  # of a process that was killed
    workers = reading.workers
    return DataLoader(
        Crops(reading),
        reading.global_batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
