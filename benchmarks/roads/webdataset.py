"""WebDataset with Pillow and torchvision: tar shards of the JPEG bytes as they are, batched inside
its workers.
"""

from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from photographs import Photographs
from reading import Reading
from torch.utils.data import DataLoader

from roads.folder import augmentation

SHUFFLE_SAMPLES = 1000  # webdataset's usual shuffle buffer; it holds encoded images
SAMPLES_PER_SHARD = 250


class Decode:
    """What webdataset maps over its samples: (PIL image, JSON) -> (uint8 [3, size, size], float32
    [C]).
    """

    def __init__(self, reading: Reading) -> None:
        self._num_classes = reading.num_classes
        self._transform = augmentation(reading)

    def __call__(self, sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.zeros(self._num_classes)
        labels[sample["json"]["labels"]] = 1
        return self._transform(sample["jpg"]), labels


def prepare(root: Path, out: Path, variant: str) -> None:
    """Write tar shards with WebDataset's own writer."""
    photographs = Photographs(root)
    out.mkdir(parents=True)
    with wds.ShardWriter(
        str(out / "train-%06d.tar"), maxcount=SAMPLES_PER_SHARD, verbose=0
    ) as writer:
        for path, labels in zip(photographs.paths, photographs.labels, strict=True):
            chosen = {"labels": labels.nonzero()[0].tolist()}
            writer.write({"__key__": path.stem, "jpg": path.read_bytes(), "json": chosen})


def batches(reading: Reading) -> DataLoader:
    """Open a pipeline that batches inside its workers, as WebDataset's documentation advises."""
    urls = sorted(str(path) for path in Path(reading.data).glob("*.tar"))
    parts = [wds.split_by_worker, wds.tarfile_to_samples()]
    # too few shards to go round: split the samples, so that no worker idles
    if len(urls) % max(1, reading.workers):
        parts.reverse()
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(urls),
        *parts,
        wds.shuffle(SHUFFLE_SAMPLES),
        wds.decode("pilrgb"),
        wds.map(Decode(reading)),
        wds.batched(reading.global_batch_size, partial=True),
    )
    return DataLoader(
        pipeline,
        batch_size=None,
        num_workers=reading.workers,
        persistent_workers=reading.workers > 0,
    )
