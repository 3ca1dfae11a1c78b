"""FFCV: os_cache, random order, its own compiled decoder, crop and flip, all as its ImageNet
example has them.

`ffcv jpg` holds what RGBImageField makes of the photographs in mode jpg: it decodes them and
encodes them anew with OpenCV at its default quality of 90. `ffcv bytes` holds the JPEG bytes as
they are, which takes a field of our own (FFCV has none that keeps them) and is read as the others
are. `ffcv raw` holds the pixels.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ffcv.fields import NDArrayField, RGBImageField
from ffcv.fields.ndarray import NDArrayDecoder
from ffcv.fields.rgb_image import IMAGE_MODES, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from photographs import Photographs
from PIL import Image
from reading import STORED, Reading


class KeptBytes(RGBImageField):
    """Store the file of an image that Pillow has opened instead of encoding its pixels."""

    def encode(
        self, destination: np.ndarray, image: Image.Image, malloc: Callable[[int], Any]
    ) -> None:
        data = np.fromfile(image.filename, np.uint8)  # type: ignore[attr-defined]
        destination["mode"] = IMAGE_MODES["jpg"]
        destination["width"], destination["height"] = image.size
        destination["data_ptr"], storage = malloc(data.nbytes)
        storage[:] = data


class Samples:
    """What FFCV's writer reads: sample number -> (PIL image, float32 [C])."""

    def __init__(self, photographs: Photographs, variant: str) -> None:
        self._photographs = photographs
        self._opened = variant == "bytes"

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, number: int) -> tuple[Image.Image, np.ndarray]:
        image = self._photographs.image(number)
        return image if self._opened else image.convert("RGB"), self._photographs.labels[number]


def prepare(root: Path, out: Path, variant: str) -> None:
    """Write the .beton file with the images as `variant` says: jpg, bytes or raw."""
    photographs = Photographs(root)
    fields = {
        "image": KeptBytes() if variant == "bytes" else RGBImageField(write_mode=variant),
        "labels": NDArrayField(np.dtype("float32"), photographs.labels.shape[1:]),
    }
    out.mkdir(parents=True)
    path = str(out / "train.beton")
    DatasetWriter(path, fields, num_workers=2).from_indexed_dataset(Samples(photographs, variant))
    (out / STORED).write_text(str(Reader(path, {"image": RGBImageField}).alloc_table["size"].sum()))


def batches(reading: Reading) -> Loader:
    """Open the .beton file; images come channels_last, as FFCV's ToTorchImage has them by default."""
    crop = RandomResizedCropRGBImageDecoder((reading.size, reading.size), reading.scale)
    return Loader(
        str(Path(reading.data) / "train.beton"),
        batch_size=reading.global_batch_size,
        num_workers=reading.workers,
        os_cache=True,
        order=OrderOption.RANDOM,
        drop_last=False,
        custom_fields={"image": RGBImageField},
        pipelines={
            "image": [crop, RandomHorizontalFlip(), ToTensor(), ToTorchImage()],
            "labels": [NDArrayDecoder(), ToTensor()],
        },
    )
