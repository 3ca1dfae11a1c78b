"""Read photographs and labels of Open Images: verified labels are 1 or 0, all others nobody knows."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from preprocess.reading.folders import walk_folder
from preprocess.reading.paths import inside
from preprocess.reading.split_names import in_split_order, split_of
from preprocess.reading.unicode_files import NamesByForm
from preprocess.record import Record, Source
from preprocess.sources.open_images_files import (
    Verified,
    class_names_of,
    read_descriptions,
    read_wanted,
)
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.host.picture_files import is_image, is_junk

_PATTERNS = (  # in the order in which they are looked for
    "*human-imagelabels*.csv",
    "*/*human-imagelabels*.csv",
    "*/labels/classifications.csv",  # as FiftyOne lays the set out
    "*annotations-bbox*.csv",
    "*/*annotations-bbox*.csv",
)
_DESCRIPTIONS = ("*class-descriptions*.csv", "*/*class-descriptions*.csv", "*/metadata/classes.csv")
_MOST_UNKNOWN = 400_000_000  # labels nobody knows: 8 bytes each in memory
_NAMED = 3  # in a line about many

Absent = Literal["ignored", "negative"]
MissingImages = Literal["refuse", "skip"]


@dataclass
class OpenImages(Source):
    """A source over the tables of Open Images: ImageID, LabelName and Confidence, 1 or 0.

    People verified only some labels of each image: 1 is shown, 0 is not, and what is in no row is
    unknown, so ignored in loss and metrics. Tables of boxes are read too: a box shows its class.
    Several tables of one split are joined. Raises DataError for what does not fit.
    """

    root_holds = "the folder that holds the tables and the folders of the images"
    example = "--root open-images --out data/open-images --short-side 256"

    root: Path
    labels: str = option(
        "", "tables below root, separated by commas; default: all *human-imagelabels*.csv"
    )
    descriptions: str = option(
        "", "table of label ids and names; default: *class-descriptions*.csv"
    )
    class_list: str = option(
        "", "file below root that lists the classes to pack, one a line; default: all that occur"
    )
    images: str = option(
        "", "folders of the images below root, separated by commas; default: those named as splits"
    )
    absent: Absent = option(
        "ignored", "what a label means that no row names: ignored, since unknown, or negative"
    )
    missing_images: MissingImages = option(
        "refuse", "what becomes of rows whose image is not there: refuse, or skip them"
    )

    def __post_init__(self) -> None:
        for flag, kinds in (("absent", Absent), ("missing_images", MissingImages)):
            if getattr(self, flag) not in get_args(kinds):
                given = " or ".join(get_args(kinds))
                raise DataError(
                    f"--{flag.replace('_', '-')} is {getattr(self, flag)!r}: give {given}"
                )
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give {self.root_holds}")
        self._tables = self._find_tables()
        self._names = self._read_names()
        listed = inside(self.root, self.class_list, "--class-list") if self.class_list else None
        wanted = read_wanted(listed, self._names) if listed else None
        self._files: dict[str, dict[str, str]] = {}  # by split: image files below root, by id
        self._ids_there: dict[str, NamesByForm] = {}
        self._verified: dict[str, Verified] = {}
        for split, tables in self._tables.items():
            self._files[split] = self._find_images(split)
            self._ids_there[split] = there = NamesByForm(self._files[split])
            self._verified[split] = found = Verified()
            for table in tables:
                found.add_table(table, there, None if wanted is None else set(wanted))
            found.settle()
            self._check(split, found)
        ids = {label for found in self._verified.values() for label in found.labels()}
        self._ids = tuple(wanted or sorted(ids))
        if not self._ids:
            raise DataError(f"{self.root}: no table has a label of an image that is there")
        self.class_names = class_names_of(self._ids, self._names)
        self._number = {label: number for number, label in enumerate(self._ids)}

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the tables are named after."""
        return in_split_order(list(self._tables))

    def records(self, split: str) -> list[Record]:
        """List the images of a split by id. Raises DataError for an unknown one, and where too much
        is unknown to fit into memory.
        """
        if split not in self._tables:
            raise DataError(f"split {split!r} has no table; there are: {', '.join(self.splits())}")
        found = self._verified[split]
        unknown = len(found.positive) * len(self._ids)
        if self.absent == "ignored" and unknown > _MOST_UNKNOWN:
            raise DataError(
                f"{split}: {count_of(len(found.positive), 'image')} of "
                f"{count_of(len(self._ids), 'class')} have too many "
                "unknown labels; choose classes with --class-list, or give --absent negative"
            )
        return [self._record(split, image) for image in sorted(found.positive)]

    def describe(self) -> list[str]:
        """Say which tables were read, and what was left out."""
        rest = "ignored" if self.absent == "ignored" else "taken as not shown"
        lines = [f"labels: 1 is shown, 0 is not; what no row names is {rest}"]
        for split, tables in self._tables.items():
            found = self._verified[split]
            lines.append(f"split {split}: {', '.join(map(self._below, tables))}")
            if found.absent:
                lines.append(
                    f"left out: {count_of(len(found.absent), 'image')} of {split} not there"
                )
            used = {self._stem(split, image) for image in found.positive}
            more = sorted(self._files[split].keys() - used)
            if more:
                some = ", ".join(self._files[split][image] for image in more[:_NAMED])
                lines.append(
                    f"left out: {count_of(len(more), 'image')} that no table of {split} has: {some}"
                )
            if found.contradicted:
                num = sum(map(len, found.contradicted.values()))
                lines.append(
                    f"split {split}: {count_of(num, 'label is', 'labels are')} 1 in one row and 0 "
                    "in another, "
                    "so ignored"
                )
        nameless = sum(label not in self._names for label in self._ids)
        if nameless:
            called = count_of(
                nameless,
                "class has no description; it is called by its id",
                "classes have no description; they are called by their ids",
            )
            lines.append(called)
        return lines

    def _record(self, split: str, image: str) -> Record:
        found = self._verified[split]
        labels = {self._number[label] for label in found.positive[image]}
        negative = {self._number[label] for label in found.negative.get(image, ())}
        known = labels | negative
        unsure = found.contradicted.get(image, set()) & self._number.keys()
        ignored: Sequence[int] = sorted(self._number[label] for label in unsure)
        if self.absent == "ignored":
            ignored = [number for number in self._number.values() if number not in known]
        file = self._files[split][self._stem(split, image)]
        path = self.root / file
        source = path.with_name(image + path.suffix).relative_to(self.root).as_posix()
        return Record(image, path, source, tuple(sorted(labels)), tuple(ignored))

    def _stem(self, split: str, image: str) -> str:
        """Return the name of an image's file, without its suffix."""
        return self._ids_there[split].find(image, str(self._tables[split][0])) or image

    # files

    def _find_tables(self) -> dict[str, list[Path]]:
        """Find the tables of each split."""
        given = [name.strip() for name in self.labels.split(",") if name.strip()]
        paths = [inside(self.root, name, "--labels") for name in given]
        for pattern in () if given else _PATTERNS:
            paths = self._glob(pattern)
            if paths:
                break
        if not paths:
            raise DataError(
                f"{self.root} holds no *human-imagelabels*.csv; name the tables with --labels"
            )
        tables: dict[str, list[Path]] = {}
        for path in paths:
            parts = (path.stem, *reversed(path.relative_to(self.root).parts[:-1]))
            split = next(filter(None, map(split_of, parts)), "all")
            tables.setdefault(split, []).append(path)
        return {split: tables[split] for split in in_split_order(list(tables))}

    def _read_names(self) -> dict[str, str]:
        if self.descriptions:
            return read_descriptions(inside(self.root, self.descriptions, "--descriptions"))
        names: dict[str, str] = {}
        for pattern in _DESCRIPTIONS:
            for path in self._glob(pattern):
                names = read_descriptions(path) | names
        return names

    def _glob(self, pattern: str) -> list[Path]:
        found = sorted(self.root.glob(pattern))
        return [p for p in found if not any(map(is_junk, p.relative_to(self.root).parts))]

    def _find_images(self, split: str) -> dict[str, str]:
        """Map image ids to files, of the folders of a split."""
        given = [name.strip() for name in self.images.split(",") if name.strip()]
        folders = [inside(self.root, name, "--images") for name in given] or self._folders(split)
        found: dict[str, str] = {}
        for folder in folders:
            if not folder.is_dir():
                raise DataError(f"--images: {folder} is not a folder; correct it")
            for parent, names in walk_folder(folder):
                below = os.path.relpath(parent, self.root).replace(os.sep, "/")
                for name in names:
                    if is_image(name) and not is_junk(name):
                        path = name if below == "." else f"{below}/{name}"
                        other = found.setdefault(name.rpartition(".")[0], path)
                        if other != path:
                            raise DataError(
                                f"{self.root}: {other} and {path} are both image "
                                f"{name.rpartition('.')[0]}; keep one, or name folders with --images"
                            )
        return found

    def _folders(self, split: str) -> list[Path]:
        """Find the folders of a split: train, or train_0 to train_f; else root itself."""
        for start in (self.root, self.root / "images"):
            if start.is_dir():
                there = sorted(path for path in start.iterdir() if path.is_dir())
                found = [path for path in there if split_of(path.name) == split]
                if found:
                    return found
        return [self.root]

    def _check(self, split: str, found: Verified) -> None:
        if not found.positive:
            table = self._tables[split][0]
            some = ", ".join(sorted(found.absent)[:_NAMED])
            raise DataError(
                f"{table}: none of its images is below {self.root}, such as {some or '(none)'}; give "
                "their folder with --images"
            )
        if found.absent and self.missing_images == "refuse":
            raise DataError(
                f"{self._tables[split][0]}: {len(found.absent):,} of its images are not there, such as "
                f"{min(found.absent)}; get them, or leave them out with --missing-images skip"
            )

    def _below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
