"""NVIDIA DALI on the CPU: file reader, decoder that decodes the random crop, antialiased resize,
flip.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy
from photographs import Photographs
from reading import Reading

SHUFFLE_SAMPLES = 1000  # encoded images that the reader holds to draw from


@pipeline_def
def crops(photographs: Photographs, reading: Reading) -> tuple[Any, Any]:
    """Deliver (uint8 [size, size, 3], sample number)."""
    files = [str(path) for path in photographs.paths]
    data, numbers = fn.readers.file(
        files=files,
        labels=list(range(len(files))),
        random_shuffle=True,
        initial_fill=SHUFFLE_SAMPLES,
        name="reader",
    )
    images = fn.decoders.image_random_crop(
        data,
        output_type=types.RGB,
        random_area=list(reading.scale),
        random_aspect_ratio=[3 / 4, 4 / 3],
    )
    images = fn.resize(images, size=[reading.size, reading.size])  # linear, antialiased by default
    return fn.flip(images, horizontal=fn.random.coin_flip(probability=0.5)), numbers


class Batches:
    """Epochs of (uint8 [B, 3, size, size] channels_last, float32 [B, C])."""

    def __init__(self, reading: Reading) -> None:
        photographs = Photographs(Path(reading.data))
        self._labels = torch.from_numpy(photographs.labels)
        pipeline = crops(
            photographs,
            reading,
            batch_size=reading.global_batch_size,
            num_threads=reading.workers,
            device_id=None,
        )
        self._batches = DALIGenericIterator(
            pipeline,
            ["images", "numbers"],
            reader_name="reader",
            last_batch_policy=LastBatchPolicy.PARTIAL,
            auto_reset=True,
        )

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for (batch,) in self._batches:
            yield batch["images"].permute(0, 3, 1, 2), self._labels[batch["numbers"][:, 0].long()]


def batches(reading: Reading) -> Batches:
    """Open the pipeline."""
    return Batches(reading)
