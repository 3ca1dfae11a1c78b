"""Read photographs from one folder per class, the layout of torchvision's ImageFolder."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from preprocess.paths import IMAGE_SUFFIXES, SPLITS, in_split_order, is_image, short_names
from preprocess.record import Record, Source
from shards.errors import DataError

_JUNK = ("Thumbs.db", "desktop.ini")  # what file managers leave behind, besides hidden files


@dataclass
class ImageFolder(Source):
    """A source over `root/class/x.jpg`, one split `all`, or over `root/train/class/x.jpg` and `root/val/class/x.jpg`.

    Folders below a class belong to it, linked ones too. Classes and files are sorted as torchvision sorts them, so
    class numbers are the same. A split folder is one named train, val (valid, validation) or test that holds folders.
    Raises DataError for what torchvision would let pass: classes that differ between splits, images beside the class
    folders, files in them that are no images.
    """

    root_holds = "the folder that holds a folder per class, or train and val with a folder per class each"
    example = "--root photos --out data/photos --val-fraction 0.2"

    root: Path

    def __post_init__(self) -> None:
        self.task = "multiclass"
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder; give {self.root_holds}")
        self._splits = self._find_splits()
        self.class_names = self._find_classes()

    def splits(self) -> tuple[str, ...]:
        """Return the split folders there are, or ("all",)."""
        return tuple(self._splits)

    def records(self, split: str) -> list[Record]:
        """List the images of a split, class by class, each class by path. Raises DataError."""
        if split not in self._splits:
            raise DataError(f"split {split!r} is not in {self.root}; there are: {', '.join(self._splits)}")
        folder = self._splits[split]
        found = [(path, label) for label, name in enumerate(self.class_names) for path in _images(folder / name)]
        if not found:
            raise DataError(f"{folder} holds no image; fill its class folders or leave the split out with --splits")
        names = short_names([path.relative_to(folder).as_posix() for path, _ in found])
        return [
            Record(name, path, path.relative_to(self.root).as_posix(), (label,), ())
            for name, (path, label) in zip(names, found, strict=True)
        ]

    def _find_splits(self) -> dict[str, Path]:
        folders = _folders(self.root)
        found: dict[str, Path] = {}
        for name in folders:
            if name in SPLITS and _folders(self.root / name):
                split = SPLITS[name]
                if split in found:
                    raise DataError(
                        f"{self.root} holds {found[split].name} and {name}, both for split {split}; keep one"
                    )
                found[split] = self.root / name
        if not found:
            return {"all": self.root}
        others = [name for name in folders if self.root / name not in found.values()]
        if others:
            raise DataError(
                f"{self.root / others[0]} is no split with class folders, but stands beside "
                f"{next(iter(found.values()))}; move it out, or give it class folders and the name train, val or test"
            )
        return {split: found[split] for split in in_split_order(list(found))}

    def _find_classes(self) -> tuple[str, ...]:
        """Return the classes of the first split, which all others must have too."""
        (first, folder), *others = self._splits.items()
        names = _classes(folder)
        for name in names:
            if not any(True for _ in _images(folder / name)):
                raise DataError(f"{folder / name} holds no image: nothing would be learnt of it; fill or remove it")
        for split, other in others:
            there = _classes(other)
            unknown, missing = set(there).difference(names), set(names).difference(there)
            if unknown:
                raise DataError(
                    f"{other / min(unknown)}: {first} has no class {min(unknown)!r}; remove it or rename it"
                )
            if missing:
                raise DataError(
                    f"{split} has no class {min(missing)!r}, {first} has; "
                    f"make {other / min(missing)}, an empty folder, if no image of it is there"
                )
        return names


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _classes(folder: Path) -> tuple[str, ...]:
    """Return the class folders of a split; images beside them have no label and are refused."""
    names = _folders(folder)
    with os.scandir(folder) as entries:
        stray = sorted(entry.name for entry in entries if entry.is_file() and is_image(entry.name))
    if stray and not names:
        raise DataError(f"{folder} holds images but no class folder; put each class's images into a folder of its name")
    if stray:
        raise DataError(f"{folder / stray[0]} lies in no class folder; move it into one, or out of {folder}")
    if not names:
        raise DataError(f"{folder} holds no class folder; put each class's images into a folder of its name")
    return tuple(names)


def _walk(folder: Path) -> list[tuple[str, list[str]]]:
    """List (folder, its files), sorted, of a folder and all below it, following links as torchvision does.

    Raises DataError for a link back to a folder above it, which would never end, and OSError for a folder that cannot
    be read.
    """
    above = {str(folder): {_identity(folder)}}  # of a folder yet to be walked: itself and all that it lies in
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        within = above.pop(parent)
        for path in (os.path.join(parent, name) for name in folders):
            identity = _identity(path)
            if identity in within:
                raise DataError(f"{path} is a link back to a folder that it lies in; remove the link")
            above[path] = within | {identity}
        found.append((parent, sorted(files)))
    return sorted(found)


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> NoReturn:
    raise error


def _images(folder: Path) -> list[Path]:
    found = []
    for parent, files in _walk(folder):
        for name in files:
            if is_image(name):
                found.append(Path(parent, name))
            elif not name.startswith(".") and name not in _JUNK:
                raise DataError(
                    f"{Path(parent, name)} is none of {' '.join(IMAGE_SUFFIXES)}; "
                    "convert it or move it out of the class"
                )
    return found
