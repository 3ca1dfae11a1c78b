"""LitData: chunks of the JPEG bytes as they are; it decodes them with torchvision, transforms.v2
does the rest.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from photographs import Photographs
from reading import Reading

from roads.folder import tensor_augmentation


class Crops(StreamingDataset):
    """Sample number -> (uint8 [3, size, size], float32 [C])."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.data, shuffle=True)
        self._transform = tensor_augmentation(reading)

    def __getitem__(self, number: Any) -> Any:
        sample = super().__getitem__(number)
        return self._transform(sample["image"]), sample["labels"]


def sample(photographs: Photographs, number: int) -> dict[str, Any]:
    """Make what LitData stores; of an image that Pillow has opened it copies the file."""
    return {
        "image": photographs.image(number),
        "labels": torch.from_numpy(photographs.labels[number]),
    }


def prepare(root: Path, out: Path, variant: str) -> None:
    """Write the chunks."""
    photographs = Photographs(root)
    numbers = list(range(len(photographs)))
    optimize(partial(sample, photographs), numbers, str(out), chunk_bytes="64MB", num_workers=2)


def batches(reading: Reading) -> StreamingDataLoader:
    """Open the chunks where they lie."""
    workers = reading.workers
    return StreamingDataLoader(
        Crops(reading),
        batch_size=reading.global_batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
