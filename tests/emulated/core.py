"""The numeric core at work on the golden photographs: what it gives must not depend on the CPU.

    python -m tests.emulated.core OUT.npz

Writes arrays: what our own code decides to the bit, and pixels, which are compared with the
native ones. Metrics are left out where there is no torch.
"""

import hashlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from preprocess.images.geometry import ImageOptions
from shards.augment.crops import random_resized_crops
from shards.augment.pad_crop import erase_boxes
from shards.augment.pixel_ops import change_pixels
from shards.augment.sample_changes import BatchAugmentation, draw_changes
from shards.dataset import ShardDataset
from shards.decode.decoder import Decoder, resize_into
from shards.index import DatasetIndex
from shards.pipeline.reader import ShardReader
from tests.conftest import pack
from tests.preprocess.packing.test_golden import GOLDEN, contents, golden_records
from tests.shards.golden_order import golden

SIZE = 48
EPOCHS = 16


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def exact() -> dict[str, str]:
    """Return what is the same to the last bit on every CPU: name -> digest."""
    with tempfile.TemporaryDirectory() as folder:
        pack(golden_records(), Path(folder) / "train", shard_samples=3, order="shuffled")
        found = {name: digest(data) for name, data in contents(Path(folder) / "train").items()}
        pack(golden_records(), Path(folder) / "small", image=ImageOptions(short_side=24))
        tar = (Path(folder) / "small" / "train-000000.tar").read_bytes()
        found["resized photographs"] = digest(tar)
    found["order"] = digest(json.dumps(golden()).encode())
    found["whole images"] = digest(b"".join(pixels.tobytes() for pixels in whole_images()))
    found["augmented images"] = digest(b"".join(pixels.tobytes() for pixels in augmented()))
    if importlib.util.find_spec("torch"):
        from tests.emulated.metrics import metrics

        found |= metrics()
    return found


def crops(tiles: bool) -> np.ndarray:
    """Cut crops of training, uint8 [EPOCHS, 5, SIZE, SIZE, 3]: by the tile decoder, or by libjpeg
    and OpenCV.
    """
    index = DatasetIndex.open(GOLDEN / "split")
    reader, decoder, rows = ShardReader(index), Decoder(), index.samples
    out = np.empty((EPOCHS, len(rows), SIZE, SIZE, 3), np.uint8)
    for epoch in range(EPOCHS):
        boxes, flips = random_resized_crops(
            np.arange(len(rows)), rows["width"], rows["height"], 0, epoch, (0.08, 1.0)
        )
        for image, row, box, flip in zip(
            out[epoch], rows, boxes.tolist(), flips.tolist(), strict=True
        ):
            data, width, height = reader.member(row, 0), int(row["width"]), int(row["height"])
            if not tiles:
                resize_into(image, decoder.box(data, width, height, box), flip)
            elif not decoder.crop_tiles_into(image, data, width, height, box, flip):
                raise RuntimeError(f"the tile decoder refuses {row['key']}")
    return out


def whole_images() -> list[np.ndarray]:
    """Decode the golden photographs whole, by libjpeg."""
    index = DatasetIndex.open(GOLDEN / "split")
    return [ShardDataset(index).image(number) for number in range(index.num_samples)]


def augmented() -> list[np.ndarray]:
    """Augment corners of them in every way, uint8 [16 x images, side, side, 3] each."""
    images = whole_images()
    side = min(min(image.shape[:2]) for image in images)
    corners = np.stack([image[:side, :side] for image in images] * EPOCHS)
    found = []
    for options in (
        BatchAugmentation(trivial_augment=True, dihedral=True, erasing=0.5),
        BatchAugmentation(color_jitter=0.4, hue_jitter=0.1),
    ):
        pixels = corners.copy()
        changes = draw_changes(options, np.arange(len(pixels)), 0, 1, side, side)
        change_pixels(pixels, changes.maps, changes.codes, changes.amounts)
        erase_boxes(pixels, changes.boxes, np.array([9, 99, 199], np.uint8))
        found.append(pixels)
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], exact=json.dumps(exact()), tiles=crops(True), resized=crops(False))
