"""Read photographs and labels from a folder in the layout of PASCAL VOC 2007 to 2012."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from preprocess.reading.class_names import tidy
from preprocess.reading.encodings import plain_text
from preprocess.reading.unicode_files import FilesByForm, NamesByForm
from preprocess.record import Record, Source
from preprocess.sources.voc_annotation import read_annotation, read_bytes
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.host.picture_files import is_image, is_junk

Difficult = Literal["ignore", "positive", "negative"]

# fmt: off
OFFICIAL_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on
OFFICIAL_SPLITS = ("train", "val", "trainval", "test")
# the first that exists is the image
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".JPG", ".JPEG", ".png", ".PNG")
# 0: the image shows only objects of the class that are difficult
_PRESENCE = {"1": 1, "0": 0, "-1": -1}
_MAX_LIST_BYTES = 256 << 20


@dataclass(frozen=True)
class _Line:
    number: int
    fields: list[str]


@dataclass
class VOC(Source):
    """A source over one VOC folder, such as VOCdevkit/VOC2012.

    A class list `ImageSets/Main/<class>_<split>.txt` says 1, 0 or -1 of each image; 0 means that
    every object of the class is difficult, and `difficult` says what becomes of it: an ignored
    label, a positive or a negative one. The lists are joined by image id, so the order of their
    lines is free; their ids must be those of `<split>.txt`, which fixes the order of the records. A
    split without class lists is read from Annotations. Raises DataError, here or from `records`,
    for everything that does not fit together.
    """

    root_holds = "the folder that holds JPEGImages and ImageSets"
    example = "--root VOCdevkit/VOC2012 --out data/voc --short-side 256"

    root: Path
    difficult: Difficult = option(
        "ignore",
        "what becomes of a class that shows only difficult objects; ignored ones count in no loss "
        "or metric",
    )

    def __post_init__(self) -> None:
        if self.difficult not in get_args(Difficult):
            raise DataError(
                f"--difficult is {self.difficult!r}: give one of {', '.join(get_args(Difficult))}"
            )
        _check_layout(self.root)
        self._files = FilesByForm()
        self._lists = self.root / "ImageSets" / "Main"
        self._annotations: dict[str, dict[str, int]] = {}
        stems = sorted(path.stem for path in self._lists.glob("*.txt") if not is_junk(path.name))
        self._class_lists = _group_class_lists(stems)
        grouped = {stem for listed in self._class_lists.values() for stem in listed.values()}
        self._splits = _in_official_order(
            {s for s in stems if s not in grouped} | set(self._class_lists)
        )
        if not self._splits:
            raise DataError(
                f"{self._lists} holds no list of images; it should hold train.txt or "
                f"<class>_train.txt"
            )
        self.class_names = self._find_class_names()
        self._images: frozenset[str] | None = None
        self._others: dict[str, str] = {}  # images by id, also of rarer suffixes such as .Jpg

    def splits(self) -> tuple[str, ...]:
        """Return ("train", "val") where both are there, otherwise all there are, official names
        first.
        """
        usual = ("train", "val")
        return usual if set(usual) <= set(self._splits) else self._splits

    def records(self, split: str) -> list[Record]:
        """List the photographs of `split` in the order of its list, each once. Raises DataError."""
        if split not in self._splits:
            raise DataError(
                f"split {split!r} is not in {self._lists}; there are: {', '.join(self._splits)}"
            )
        ids = self._read_ids(split)
        presence = self._presence_from_lists(split, ids)
        if presence is None:
            presence = {image_id: self._annotation(image_id) for image_id in ids}
        index = {name: number for number, name in enumerate(self.class_names)}
        return [self._record(split, image_id, presence[image_id], index) for image_id in ids]

    def _record(
        self, split: str, image_id: str, presence: dict[str, int], index: dict[str, int]
    ) -> Record:
        unknown = presence.keys() - index.keys()
        if unknown:
            raise DataError(
                f"{self._annotation_path(image_id)} names class {min(unknown)!r}, which no class "
                f"list in {self._lists} has; add its lists or remove the object"
            )
        shown = {1, 0} if self.difficult == "positive" else {1}
        labels = sorted(index[name] for name, value in presence.items() if value in shown)
        unsure = sorted(index[name] for name, value in presence.items() if value == 0)
        ignored = unsure if self.difficult == "ignore" else ()
        file = self._image_file(split, image_id)
        path = self.root / "JPEGImages" / file
        source = f"JPEGImages/{image_id}{path.suffix}"
        return Record(image_id, path, source, tuple(labels), tuple(ignored))

    def _image_file(self, split: str, image_id: str) -> str:
        folder = self.root / "JPEGImages"
        if self._images is None:  # one listing instead of a stat per image
            with os.scandir(folder) as entries:
                self._images = frozenset(entry.name for entry in entries)
            for name in sorted(filter(is_image, self._images)):
                self._others.setdefault(name.rpartition(".")[0], name)
            self._stems = NamesByForm(self._others)
        stem = self._stems.find(image_id, f"{self._lists}: split {split}")
        if stem is not None:
            usual = (stem + suffix for suffix in _IMAGE_SUFFIXES)
            return next((name for name in usual if name in self._images), self._others[stem])
        raise DataError(
            f"{folder / image_id}.jpg is missing, but split {split!r} lists {image_id!r}; "
            "restore the image or remove the id from the lists"
        )

    def describe(self) -> list[str]:
        """Say which splits are read from class lists and which from annotations."""
        listed = [split for split in self._splits if split in self._class_lists]
        others = [split for split in self._splits if split not in self._class_lists]
        lines = []
        if listed:
            lines.append(
                f"labels of {', '.join(listed)}: from the lists ImageSets/Main/CLASS_SPLIT.txt"
            )
        if others:
            lines.append(f"labels of {', '.join(others)}: from the objects in Annotations")
        if self.class_names == OFFICIAL_CLASSES:
            lines.append("classes: the 20 of PASCAL VOC")
        return lines

    # lists

    def _list_path(self, stem: str) -> Path:
        return self._lists / f"{stem}.txt"

    def _read_ids(self, split: str) -> list[str]:
        """Return the ids of a split from its master list, otherwise from its first class list."""
        path = self._list_path(split)
        num_fields = 1
        if not path.exists():
            path = self._list_path(next(iter(self._class_lists[split].values())))
            num_fields = 2
        seen: dict[str, int] = {}
        for line in _read_lines(path):
            if len(line.fields) != num_fields:
                raise _malformed(path, line, num_fields)
            _note_id(seen, line, path)
        if not seen:
            raise DataError(
                f"{path} lists no image: split {split!r} is empty; fill the list or choose another "
                f"split"
            )
        return list(seen)

    def _presence_from_lists(self, split: str, ids: list[str]) -> dict[str, dict[str, int]] | None:
        """Return for each id its classes with value 1 or 0; None where the split has no class
        lists.
        """
        listed = self._class_lists.get(split)
        if not listed:
            return None
        missing = [name for name in self.class_names if name not in listed]
        if missing:
            raise DataError(
                f"{self._list_path(f'{missing[0]}_{split}')} is missing, though other splits have "
                f"class {missing[0]!r}; restore it or remove the class from all splits"
            )
        presence: dict[str, dict[str, int]] = {image_id: {} for image_id in ids}
        for name, stem in listed.items():
            self._join_class_list(name, self._list_path(stem), split, presence)
        return presence

    def _join_class_list(
        self, name: str, path: Path, split: str, presence: dict[str, dict[str, int]]
    ) -> None:
        seen: dict[str, int] = {}
        names = NamesByForm(presence)
        for line in _read_lines(path):
            if len(line.fields) != 2:
                raise _malformed(path, line, 2)
            given, text = line.fields
            image_id = names.find(given, f"{path}:{line.number}") or given
            if text not in _PRESENCE:
                raise DataError(
                    f"{path}:{line.number}: label {text!r} of {image_id!r} is unknown; use 1, 0 or "
                    f"-1"
                )
            _note_id(seen, _Line(line.number, [image_id]), path)
            if image_id not in presence:
                raise DataError(
                    f"{path}:{line.number}: image {image_id!r} is in no other list of split "
                    f"{split!r}; remove it here or add it to {split}.txt"
                )
            if _PRESENCE[text] >= 0:
                presence[image_id][name] = _PRESENCE[text]
        if len(seen) < len(presence):
            absent = next(image_id for image_id in presence if image_id not in seen)
            raise DataError(
                f"{path} lacks {len(presence) - len(seen)} of the "
                f"{count_of(len(presence), 'image')} of split "
                f"{split!r}, the first is {absent!r}; add a line with 1, 0 or -1 for each"
            )
        for (image_id, number), expected in zip(seen.items(), presence, strict=True):
            # nothing would be mixed up here, but other tools read these lists by position
            if image_id != expected:
                raise DataError(
                    f"{path}:{number}: {image_id!r} is where the other lists of split {split!r} "
                    f"have {expected!r}; put the lines into their order"
                )

    # annotations

    def _find_class_names(self) -> tuple[str, ...]:
        names = {name for listed in self._class_lists.values() for name in listed}
        if names:
            return tuple(sorted(names))  # of the official 20 this is the official order
        listed = [self._read_ids(split) for split in self._splits]
        # of a test set whose labels are secret `records` says what is missing
        annotated = [ids for ids in listed if any(map(self._is_annotated, ids))]
        for ids in annotated or listed:
            names.update(name for image_id in ids for name in self._annotation(image_id))
        if not names:
            raise DataError(
                f"no class list in {self._lists} and no object in {self.root / 'Annotations'}; add "
                f"one"
            )
        return OFFICIAL_CLASSES if names <= set(OFFICIAL_CLASSES) else tuple(sorted(names))

    def _annotation_path(self, image_id: str) -> Path:
        return self._files.find(self.root / "Annotations", f"{image_id}.xml", str(self._lists))

    def _is_annotated(self, image_id: str) -> bool:
        return self._annotation_path(image_id).exists()

    def _annotation(self, image_id: str) -> dict[str, int]:
        if image_id not in self._annotations:
            self._annotations[image_id] = read_annotation(self._annotation_path(image_id))
        return self._annotations[image_id]


def _malformed(path: Path, line: _Line, num_fields: int) -> DataError:
    table = ", or read a table by --source csv" if "," in "".join(line.fields) else ""
    form = "one image id" if num_fields == 1 else "an image id and 1, 0 or -1"
    return DataError(
        f"{path}:{line.number}: expected {form}, got {' '.join(line.fields)!r}; correct the "
        f"line{table}"
    )


def _check_layout(root: Path) -> None:
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder; give the VOC folder that holds JPEGImages and ImageSets"
        )
    missing = [name for name in ("ImageSets/Main", "JPEGImages") if not (root / name).is_dir()]
    if not missing:
        return
    inner = sorted(
        path.parent
        for pattern in ("*/ImageSets", "VOCdevkit/*/ImageSets")
        for path in root.glob(pattern)
    )
    if inner:
        raise DataError(
            f"{root} is not a VOC folder but holds {inner[-1].relative_to(root)}; use {inner[-1]} "
            f"as the root"
        )
    tables = sorted(path.name for pattern in ("*.csv", "*.tsv") for path in root.glob(pattern))
    hint = f"; a table such as {tables[0]} is read by --source csv" if tables else ""
    raise DataError(
        f"{root / missing[0]} is missing; a VOC folder holds ImageSets/Main and JPEGImages{hint}"
    )


def _group_class_lists(stems: Iterable[str]) -> dict[str, dict[str, str]]:
    """Map the classes that have a list to its stem, by split: `train_val` is class train in split
    val.
    """
    stems = list(stems)
    splits = set(OFFICIAL_SPLITS) | {stem for stem in stems if "_" not in stem}
    groups: dict[str, dict[str, str]] = {}
    for stem in stems:
        name, _, split = stem.rpartition("_")
        if not (name and split in splits):
            continue
        other = groups.setdefault(split, {}).setdefault(tidy(name), stem)
        if other != stem:
            raise DataError(
                f"{other!a}.txt and {stem!a}.txt are lists of one class, spelled in two Unicode "
                f"forms; remove one"
            )
    return groups


def _in_official_order(splits: set[str]) -> tuple[str, ...]:
    official = [split for split in OFFICIAL_SPLITS if split in splits]
    return (*official, *sorted(splits.difference(official)))


def _read_lines(path: Path) -> Iterator[_Line]:
    """Yield the lines that are not blank, split at white space; any line ends and a BOM are fine."""
    text = plain_text(read_bytes(path, _MAX_LIST_BYTES), path)
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if fields:
            yield _Line(number, fields)


def _note_id(seen: dict[str, int], line: _Line, path: Path) -> None:
    image_id = line.fields[0]
    if "/" in image_id or "\\" in image_id or ".." in image_id or "\0" in image_id:
        raise DataError(
            f"{path}:{line.number}: image id {image_id!r} is a path; use the bare name of an image"
        )
    if image_id in seen:
        raise DataError(
            f"{path}:{line.number}: image {image_id!r} is on line {seen[image_id]} already; remove "
            f"one"
        )
    seen[image_id] = line.number
