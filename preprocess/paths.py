"""What sources over files share: which are images, which words name a split, paths that stay inside a folder."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from shards.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
SPLITS = {  # what folders and files are called, and the split they hold, in the order of packing
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def is_image(name: str) -> bool:
    """Tell by its suffix whether a file is an image that the packer may read."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def split_of(name: str) -> str | None:
    """Find the split that a name such as `instances_train2017` or `imagenet-val-0007` tells; None where none."""
    words = [word for word in re.findall(r"[a-z]+", name.lower()) if word in SPLITS]
    return SPLITS[words[-1]] if words else None


def in_split_order(splits: Sequence[str]) -> tuple[str, ...]:
    """Put train before val before test, others behind by name."""
    usual = [split for split in dict.fromkeys(SPLITS.values()) if split in splits]
    return (*usual, *sorted(set(splits).difference(usual)))


def inside(root: Path, given: str, where: str) -> Path:
    """Join a path that a file of labels gives to its folder. Raises DataError where it would lead out of it."""
    path = PurePosixPath(given)
    if not given or "\0" in given or path.is_absolute() or ".." in path.parts or Path(given).is_absolute():
        raise DataError(
            f"{where}: path {given!r} is no path inside {root}; give it relative to that folder, without .."
        )
    return root / path


def short_names(sources: Sequence[str]) -> list[str]:
    """Name records after their paths without suffix; where two would be the same, with it."""
    stems = [source.rpartition(".")[0] or source for source in sources]
    count = Counter(stems)
    return [stem if count[stem] == 1 else source for stem, source in zip(stems, sources, strict=True)]
