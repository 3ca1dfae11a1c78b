"""Write the train split in the sizes of `preprocess.shard --short-side 256`: `python shrink.py ROOT
OUT`.
"""

import shutil
import sys
from pathlib import Path

from photographs import Photographs
from PIL import Image
from reading import SPLIT
from tqdm import tqdm

from preprocess.images.geometry import ImageOptions, packed_size

SHORT256 = ImageOptions(short_side=256, quality=90)


def main() -> None:
    """Write a folder in VOC's layout beside OUT, plain JPEGs as Pillow has them, and rename it when
    finished.
    """
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    lists, images = Path("ImageSets") / "Main", unfinished / "JPEGImages"
    (unfinished / lists).mkdir(parents=True)
    images.mkdir()
    for path in (root / lists / f"{SPLIT}.txt", *(root / lists).glob(f"*_{SPLIT}.txt")):
        shutil.copy(path, unfinished / lists)
    photographs = Photographs(root)
    for number, path in enumerate(tqdm(photographs.paths, unit="image", disable=None)):
        image = photographs.image(number).convert("RGB")
        size = packed_size(image.size, SHORT256)
        image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).save(
            images / path.name, quality=SHORT256.quality
        )
    unfinished.rename(out)


if __name__ == "__main__":
    main()
