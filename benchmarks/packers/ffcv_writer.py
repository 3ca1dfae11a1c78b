"""Pack photographs with FFCV's DatasetWriter: `python ffcv_writer.py ffcv ROOT OUT SIDE WORKERS`.

Pixels come from Pillow, since a dataset of FFCV gives images; RGBImageField encodes them with
OpenCV at its default quality of 90, after its own resize (max_resolution is of the longer side, so
the short side is made here).
"""

import sys
from pathlib import Path
from typing import Any

from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
from PIL import Image
from pool import photographs, size_of


class Resized:
    """The photographs of a folder at another size, with their classes."""

    def __init__(self, root: str, side: int) -> None:
        self._every = photographs(root)
        self._side = side

    def __len__(self) -> int:
        return len(self._every)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        path, label = self._every[number]
        image = Image.open(path).convert("RGB")
        return image.resize(size_of(*image.size, self._side), Image.Resampling.BILINEAR), label


def main() -> None:
    """Pack, and print how many."""
    _, root, out, side, workers = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    data = Resized(root, int(side))
    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    DatasetWriter(f"{out}/all.beton", fields, num_workers=int(workers)).from_indexed_dataset(data)
    print(len(data))


if __name__ == "__main__":
    main()
