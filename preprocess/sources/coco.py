"""Read photographs and labels from COCO's instances JSON: an image shows the classes of its
annotated objects.
"""

import os
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from preprocess.reading.paths import inside, short_names
from preprocess.reading.split_names import in_split_order, split_of
from preprocess.reading.unicode_files import FilesByForm
from preprocess.record import Record, Source
from preprocess.sources.coco_json import Category, Instances, read_instances
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.host.picture_files import is_image, is_junk

_ROBOFLOW = "_annotations.coco.json"
_TRIED = 100  # images that are looked for in each folder which may hold them
_NAMED = 3  # in a line about many

Supercategories = Literal["drop", "keep"]
SameNames = Literal["refuse", "merge"]


@dataclass
class COCO(Source):
    """A source over COCO's layout: `annotations/instances_train2017.json` beside the images in
    `train2017`.

    Roboflow's is read too: `train/_annotations.coco.json` among the images, and the same in valid
    and test. Classes are the categories in the order of their ids. A class of which an image shows
    only crowds (`iscrowd` 1, a region of many objects) is ignored there; an image without objects
    shows none of the classes. Each JSON is a split, named by its file, or else its folder; all need
    the same categories. Raises DataError for what does not fit.
    """

    root_holds = "the folder that holds annotations and the folders of the images"
    example = "--root coco --out data/coco --short-side 256"

    root: Path
    annotations: str = option(
        "",
        "JSON files below root, several separated by commas, each a split; default: "
        "annotations/instances_*.json, or else */_annotations.coco.json",
    )
    images: str = option(
        "",
        "folder below root that holds the images, or one for each of annotations, separated by "
        "commas; default: train2017 for ..._train2017.json, or the folder of the JSON",
    )
    supercategories: Supercategories = option(
        "drop",
        "what becomes of a category without any object that is the supercategory of others: drop, "
        "or keep",
    )
    same_names: SameNames = option(
        "refuse", "what becomes of categories of one name: refuse, or merge into one class"
    )

    def __post_init__(self) -> None:
        for flag, kinds in (("supercategories", Supercategories), ("same_names", SameNames)):
            if getattr(self, flag) not in get_args(kinds):
                name = flag.replace("_", "-")
                raise DataError(
                    f"--{name} is {getattr(self, flag)!r}: give one of {', '.join(get_args(kinds))}"
                )
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give {self.root_holds}")
        self._given_images: dict[Path, str] = {}
        self._on_disk = FilesByForm()
        self._splits = {split: read_instances(path) for split, path in self._files().items()}
        self._categories = self._same_categories()
        annotated = {
            c for found in self._splits.values() for shown in found.shown.values() for c in shown
        }
        self._dropped = (
            _unused(self._categories, annotated) if self.supercategories == "drop" else {}
        )
        kept = {
            number: item.name
            for number, item in self._categories.items()
            if number not in self._dropped
        }
        self._refuse_same_names(kept)
        self.class_names = tuple(dict.fromkeys(kept.values()))
        places = {name: place for place, name in enumerate(self.class_names)}
        self._index = {number: places[name] for number, name in kept.items()}
        self._merged = [name for name, times in Counter(kept.values()).items() if times > 1]
        # of the splits whose records were listed: others need no images
        self._folders: dict[str, Path] = {}

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the files, or their folders, are named after."""
        return tuple(self._splits)

    def records(self, split: str) -> list[Record]:
        """List the photographs of a split in the order of its file. Raises DataError for an unknown
        one.
        """
        if split not in self._splits:
            raise DataError(
                f"split {split!r} has no JSON file; there are: {', '.join(self._splits)}"
            )
        found = self._splits[split]
        folder = self._folders.setdefault(split, self._folder(split, found))
        names = short_names(list(found.images.values()))
        records = []
        for name, (image_id, file_name) in zip(names, found.images.items(), strict=True):
            where = f"{found.path}: image {image_id}"
            path = inside(folder, file_name, where)
            source = path.relative_to(self.root).as_posix()
            path = self._on_disk.stored(folder, path, where)
            labels, ignored = self._labels(found.shown.get(image_id, {}))
            records.append(Record(name, path, source, labels, ignored))
        return records

    def describe(self) -> list[str]:
        """Say which files and folders were read, and what was left out of them."""
        lines = [
            f"split {split}: labels of {self._below(self._splits[split].path)}, images of "
            f"{self._below(folder)}"
            for split, folder in self._folders.items()
        ]
        lines += [
            f"left out: category {name!r} (id {number}), no object is one and {reason}; "
            f"--supercategories keep keeps it"
            for number, (name, reason) in self._dropped.items()
        ]
        lines += [
            f"class {name}: several categories of this name, taken as one class"
            for name in self._merged
        ]
        return lines + self._unlisted()

    def _labels(self, shown: dict[int, bool]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the classes of an image and, ignored, those of which it shows only crowds."""
        labels = {self._index[category] for category, single in shown.items() if single}
        crowds = {self._index[category] for category in shown} - labels
        return tuple(sorted(labels)), tuple(sorted(crowds))

    def _same_categories(self) -> dict[int, Category]:
        """Return the categories, which are the same in all splits."""
        (first, instances), *others = self._splits.items()
        names = {number: item.name for number, item in instances.categories.items()}
        for split, other in others:
            there = {number: item.name for number, item in other.categories.items()}
            if there != names:
                differing = min(set(there.items()) ^ set(names.items()))
                raise DataError(
                    f"{other.path}: category {differing[0]} ({differing[1]!r}) is not the same in "
                    f"{first} and {split}; give files of one set of categories with --annotations"
                )
        return instances.categories

    def _refuse_same_names(self, kept: dict[int, str]) -> None:
        seen: dict[str, int] = {}
        for number, name in kept.items():
            if self.same_names == "refuse" and name in seen:
                path = next(iter(self._splits.values())).path
                raise DataError(
                    f"{path}: category {number} is named {name!r}, as category {seen[name]} is; "
                    "rename one of them, or make them one class with --same-names merge"
                )
            seen[name] = number

    # files and folders

    def _files(self) -> dict[str, Path]:
        names = [name.strip() for name in self.annotations.split(",") if name.strip()]
        paths = [
            inside(self.root, name, "--annotations") for name in names
        ] or self._default_files()
        folders = [name.strip() for name in self.images.split(",") if name.strip()]
        if len(folders) not in (0, 1, len(names)):
            raise DataError(
                f"--images names {count_of(len(folders), 'folder')} and --annotations "
                f"{count_of(len(names), 'file')}; give "
                "one folder for all, or as many as files"
            )
        self._given_images = dict(
            zip(paths, folders * len(paths) if len(folders) == 1 else folders, strict=False)
        )
        files = dict(zip(self._split_names(paths), paths, strict=False))
        if len(files) < len(paths):
            raise DataError(
                f"{', '.join(map(self._below, paths))}: two of these are of one split; choose with "
                f"--annotations"
            )
        return {split: files[split] for split in in_split_order(list(files))}

    def _default_files(self) -> list[Path]:
        for pattern in ("annotations/instances_*.json", f"*/{_ROBOFLOW}", _ROBOFLOW):
            if paths := self._glob(pattern):
                return paths
        for pattern in ("*/annotations/instances_*.json", f"*/*/{_ROBOFLOW}"):
            if paths := self._glob(pattern):
                raise DataError(
                    f"{self.root} holds {self._below(paths[0])}; give --root {paths[0].parents[1]}"
                )
        there = self._glob("**/*.json")
        found = f"; it holds {', '.join(map(self._below, there[:_NAMED]))}: name them with --annotations"
        raise DataError(
            f"{self.root} holds no annotations/instances_*.json and no */{_ROBOFLOW}"
            f"{found if there else '; give ' + self.root_holds}"
        )

    def _glob(self, pattern: str) -> list[Path]:
        found = sorted(self.root.glob(pattern))
        return [path for path in found if not any(map(is_junk, path.relative_to(self.root).parts))]

    def _split_names(self, paths: list[Path]) -> list[str]:
        """Name the splits of files: by their names, else by their folders."""
        told = [
            split_of(path.stem) or _split_of_folders(PurePosixPath(self._below(path)))
            for path in paths
        ]
        if len(paths) == 1:
            return [told[0] or "all"]
        stems = [path.stem for path in paths]
        others = stems if len(set(stems)) == len(stems) else [path.parent.name for path in paths]
        return [split or other for split, other in zip(told, others, strict=True)]

    def _folder(self, split: str, found: Instances) -> Path:
        """Find the folder that holds the most of a split's first images."""
        given = self._given_images.get(found.path)
        names = [given] if given else _usual_folders(self._below(found.path), split)
        folders = [inside(self.root, name, "--images") for name in names]
        first = list(islice(found.images.items(), _TRIED))
        there = {
            folder: sum(
                self._on_disk.find(folder, name, f"{found.path}: image {image}").is_file()
                for image, name in first
            )
            for folder in folders
        }
        best = max(folders, key=there.__getitem__)  # the first of several
        if there[best]:
            return best
        image, name = first[0]
        tried = ", ".join(str(folder) for folder in folders if folder.is_dir())
        raise DataError(
            f"{found.path}: image {image}, {name}, is in none of {tried}; give its folder with "
            f"--images"
        )

    def _unlisted(self) -> list[str]:
        """Say how many images of the folders no file lists: they are left out."""
        lines = []
        for folder in dict.fromkeys(self._folders.values()):
            here = [
                found
                for split, found in self._splits.items()
                if self._folders.get(split, folder) == folder
            ]
            given = (name for found in here for name in found.images.values())
            listed = {os.path.normpath(self._as_stored(folder, name)) for name in given}
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if is_image(e.name) and not is_junk(e.name))
            more = [name for name in names if name not in listed]
            if more:
                files = " or ".join(self._below(found.path) for found in here)
                shown = ", ".join(more[:_NAMED]) + (", ..." if len(more) > _NAMED else "")
                lines.append(
                    f"left out: {count_of(len(more), 'image')} of {self._below(folder)} not "
                    "listed in "
                    f"{files}: {shown}"
                )
        return lines

    def _as_stored(self, folder: Path, name: str) -> str:
        if name.isascii():
            return name
        return str(self._on_disk.find(folder, name, str(folder)).relative_to(folder))

    def _below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _split_of_folders(path: PurePosixPath) -> str | None:
    """Find the split that the nearest folder of a file tells."""
    return next(
        (split for folder in reversed(path.parent.parts) if (split := split_of(folder))), None
    )


def _usual_folders(file: str, split: str) -> list[str]:
    """List where the images of a file may be, the likeliest first."""
    path = PurePosixPath(file)
    tail = path.stem.removeprefix("instances_")
    own = path.parent
    near = [
        own,
        own / "images",
        own / "data",
        own.parent,
        own.parent / "images",
        own.parent / "data",
    ]
    beside = [name for name in map(str, near) if name not in (".", "images")]
    return list(
        dict.fromkeys([tail, f"images/{tail}", *beside, split, f"images/{split}", "images", "."])
    )


def _unused(categories: dict[int, Category], annotated: set[int]) -> dict[int, tuple[str, str]]:
    """Map the categories without an object that only head others, or repeat a name, to their name
    and the reason.
    """
    children = Counter(item.parent for item in categories.values())
    left = Counter(item.name for item in categories.values())
    found: dict[int, tuple[str, str]] = {}
    for number, item in categories.items():
        if number in annotated:
            continue
        if left[item.name] > 1:
            found[number] = item.name, "another category has its name"
        elif children[item.name] > (item.parent == item.name):
            found[number] = item.name, "it is the supercategory of others"
        else:
            continue
        left[item.name] -= 1
    return found
