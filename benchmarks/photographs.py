"""The photographs that every road reads: the train split of a folder in VOC's layout. Needs NumPy
and Pillow alone.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from reading import SPLIT


class Photographs:
    """JPEG files and their labels in the order of the split's list: `paths` [N], `labels` float32
    [N, C].

    What is marked difficult counts as absent.
    """

    def __init__(self, root: Path) -> None:
        lists = Path(root) / "ImageSets" / "Main"
        keys = (lists / f"{SPLIT}.txt").read_text().split()
        self.paths = [Path(root) / "JPEGImages" / f"{key}.jpg" for key in keys]
        columns = [path.read_text().split() for path in sorted(lists.glob(f"*_{SPLIT}.txt"))]
        present = [dict(zip(column[::2], column[1::2], strict=True)) for column in columns]
        self.labels = np.array([[one[key] == "1" for one in present] for key in keys], np.float32)

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, number: int) -> Image.Image:
        """Open a photograph; its pixels are decoded on demand."""
        return Image.open(self.paths[number])
