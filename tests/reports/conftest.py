"""What the tests of other rooms have already made, and a run whose names are in several scripts."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocess.sources.imagefolder import ImageFolder
from tests.train.conftest import digits as digits
from tests.train.conftest import pack_here
from tests.train.here import train_here

NAMES = ("niño", "猫", "perro")


def write_animals(root: Path) -> None:
    """Write 12 pictures a class and split, some with names that are no UTF-8."""
    rng = np.random.default_rng(0)
    for folder in (root / split / name for split in ("train", "val") for name in NAMES):
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 255, (36, 36, 3), dtype=np.uint8)
            name = os.fsdecode(b"a\xf1o-%d.jpg" % number) if number % 2 else f"{number}.jpg"
            Image.fromarray(pixels).save(folder / name)


@pytest.fixture(scope="session")
def animals(tmp_path_factory) -> Path:
    """Source, data and run in a folder whose name is Latin-1, as old archives have them."""
    folder = tmp_path_factory.mktemp("animals") / os.fsdecode(b"ni\xf1os")
    write_animals(folder / "source")
    source = ImageFolder(folder / "source")
    for split in source.splits():
        pack_here(folder / "data", source.records(split), split, NAMES, task="multiclass")
    options = {"model": "cnn", "size": 32, "augment": "pad", "precision": "no"}
    train_here(folder / "data", folder / "run", **options)
    return folder
