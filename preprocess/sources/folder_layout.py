"""How a folder of class folders is laid out: which folders are splits, and where the splits are if
not in the root.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.reading.split_names import (
    in_split_order,
    split_named,
    split_of,
    splits_among,
    words,
)
from shards.errors import DataError, count_of
from shards.host.picture_files import is_image, is_junk

_UNLABELLED = frozenset(
    ("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "submission")
)
# folders that hold one folder and nothing else, as archives inside archives leave them
_DEEPEST = 6
_NAMED = 3  # in a message about many


@dataclass(frozen=True)
class Layout:
    """The folder of each split, whose folders are the classes, and a line for each folder that is
    left out.
    """

    splits: dict[str, Path]
    left_out: tuple[str, ...] = ()


def find_layout(root: Path) -> Layout:
    """Find the split folders of `root`, or split `all`. Raises DataError where the layout is
    another one.
    """
    folders = subfolders(root)
    _refuse_other_formats(root, folders)
    found = _split_folders(root, folders)
    if not found:
        _refuse_root_too_high(root, folders)
        _refuse_splits_in_classes(root, folders)
        return Layout({"all": root})
    splits: dict[str, str] = {}
    for name, split in found.items():
        _refuse_other_formats(root / name, subfolders(root / name))
        if split in splits:
            raise DataError(
                f"{root} holds {splits[split]} and {name}, both for split {split}; keep one"
            )
        splits[split] = name
    others = [name for name in folders if name not in found]
    left_out = tuple(_left_out(root, name, next(iter(found))) for name in others)
    ordered = in_split_order(list(splits))
    return Layout({split: _descend(root / splits[split], split) for split in ordered}, left_out)


def subfolders(folder: Path) -> list[str]:
    """Name the folders in a folder, sorted, without those that systems and tools leave behind."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_junk(entry.name))


def images_in(folder: Path) -> list[str]:
    """Name the images in a folder itself, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if is_image(entry.name) and not is_junk(entry.name) and entry.is_file()
        )


def _split_folders(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """Map the folders that are splits, because of their names and since they hold folders, to their
    splits.
    """
    told = {
        name: split
        for name in folders
        # else it holds no classes
        if (split := split_of(name)) and subfolders(_descend(root / name, split))
    }
    if len(told) == len(folders) and len(set(told.values())) > 1:
        return told  # every folder says a split of its own
    return splits_among(list(told))  # where only some do, train_station is a class


def _descend(folder: Path, split: str) -> Path:
    """Go on to the only folder of a split where it only repeats the name:
    seg_train/seg_train/buildings.
    """
    for _ in range(_DEEPEST):
        below = subfolders(folder)
        if len(below) != 1 or images_in(folder) or not _repeats(below[0], folder.name, split):
            return folder
        folder = folder / below[0]
    return folder


def _repeats(name: str, above: str, split: str) -> bool:
    return name == above or split_of(name) == split or name.lower() in ("images", "data")


def _left_out(root: Path, name: str, split_folder: str) -> str:
    """Say that a folder beside the splits is left out: images without labels. Raises DataError for
    any other.
    """
    unlabelled = split_named(name) == "test" or _UNLABELLED.intersection(words(name))
    inner = root / name
    for _ in range(_DEEPEST):
        below = subfolders(inner)
        if len(below) != 1 or images_in(inner):
            break
        inner = inner / below[0]
    num = len(images_in(inner))
    if unlabelled and num and not subfolders(inner):
        where = inner.relative_to(root).as_posix()
        return f"left out: {where}, {count_of(num, 'image')} in no class folder, so without labels"
    if _split_folders(root / name, subfolders(root / name)):
        raise DataError(
            f"{root / name} has splits of its own, but is in the same folder as "
            f"{root / split_folder}; move one of them out, or give --root {root / name}"
        )
    raise DataError(
        f"{root / name} is no split with class folders, but is in the same folder as "
        f"{root / split_folder}, which is one; move it out, or give it class folders and the name "
        "train, val or test"
    )


def _refuse_root_too_high(root: Path, folders: Sequence[str]) -> None:
    """Raise DataError where the class folders, or the splits, are in a folder below the root."""
    inner = {name: _innermost(root / name) for name in folders}
    splits = {name: _split_folders(path, subfolders(path)) for name, path in inner.items()}
    least = 1 if len(folders) == 1 else 2  # a class vehicles may have a folder train
    roots = [name for name in folders if len(set(splits[name].values())) >= least]
    if roots:
        names = ", ".join(splits[roots[0]])
        path = inner[roots[0]]
        more = f" (or of {', '.join(roots[1 : _NAMED + 1])})" if len(roots) > 1 else ""
        raise DataError(
            f"{root} holds no split, but {path} does: {names}; give --root {path}{more}"
        )
    if len(folders) == 1:
        (path,) = inner.values()
        classes = subfolders(path)
        if len(classes) > 1 and not images_in(path):
            more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
            raise DataError(
                f"{root} holds one folder, and the folders in {path} seem to be the classes: "
                f"{', '.join(classes[:_NAMED])}{more}; give --root {path}"
            )


def _innermost(folder: Path) -> Path:
    """Follow folders that hold one folder and nothing else, until one that holds splits or several
    folders.
    """
    for _ in range(_DEEPEST):
        below = subfolders(folder)
        if len(below) != 1 or images_in(folder) or _split_folders(folder, below):
            return folder
        folder = folder / below[0]
    return folder


def _refuse_splits_in_classes(root: Path, folders: Sequence[str]) -> None:
    for name in folders:
        below = subfolders(root / name)
        splits = {split_named(folder) for folder in below}
        if len(splits) > 1 and None not in splits:
            raise DataError(
                f"{root / name} holds {', '.join(below)}: these are splits, inside the class "
                "folders; put the class folders into the splits, as train/cat, or list the images "
                "with their splits for --source csv"
            )


def _refuse_other_formats(folder: Path, folders: Sequence[str]) -> None:
    """Raise DataError for the folders of other formats, whose labels are in files."""
    if {"JPEGImages", "ImageSets"} <= set(folders):
        raise DataError(
            f"{folder} holds JPEGImages and ImageSets, the layout of PASCAL VOC; use --source voc"
        )
    coco = [
        path
        for name in ("", *folders)
        if (path := folder / name / "_annotations.coco.json").is_file()
    ]
    if coco:
        raise DataError(
            f"{coco[0]} holds labels in COCO's format; use --source coco --root {folder}"
        )
    tables = sorted(folder.glob("*.parquet")) or sorted(folder.glob("*/*.parquet"))
    if tables:
        raise DataError(
            f"{tables[0]} is a table of a Hugging Face dataset; use --source hf --root {folder}"
        )
    lower = {name.lower(): folder / name for name in folders}
    if {"images", "labels"} <= lower.keys() and not _any_image(lower["labels"]):
        raise DataError(f"{folder} holds images and labels, the layout of YOLO; use --source yolo")


def _any_image(folder: Path) -> bool:
    return bool(images_in(folder)) or any(images_in(folder / name) for name in subfolders(folder))
