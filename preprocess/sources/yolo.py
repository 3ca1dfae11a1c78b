"""Read photographs and labels from a YOLO dataset: an image shows the classes of its objects."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from preprocess.reading.paths import inside, short_names
from preprocess.reading.split_names import in_split_order, split_of
from preprocess.reading.unicode_files import FilesByForm
from preprocess.record import Record, Source
from preprocess.sources.coco import SameNames
from preprocess.sources.yolo_config import YoloConfig, read_darknet, read_names, read_yaml
from preprocess.sources.yolo_images import LabelFiles, Places
from preprocess.sources.yolo_labels import shown_classes
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.host.picture_files import is_junk

_NAME_LISTS = ("classes.txt", "obj.names", "labels/classes.txt", "data/obj.names")
_DESCRIPTIONS = (".yaml", ".yml", ".data")
_NAMED = 3  # in a line about many


@dataclass
class YOLO(Source):
    """A source over images and label files of YOLO: `images/train/1.jpg` and `labels/train/1.txt`.

    `data.yaml` names the classes and the splits, as Ultralytics reads it; Darknet's obj.data is
    read too, and without either a list of names with folders called images and labels. An image
    without a label file shows none of the classes, as YOLO takes it. Boxes, polygons, oriented
    boxes and poses are one to this source: only the class counts. Raises DataError for what does
    not fit.
    """

    root_holds = "the folder that holds data.yaml and the folders of the images"
    example = "--root coco128 --out data/coco128"

    root: Path
    data_yaml: str = option(
        "", "file below root that names classes and splits; default: data.yaml, or the only one"
    )
    same_names: SameNames = option(
        "refuse", "what becomes of classes of one name: refuse, or merge into one class"
    )

    def __post_init__(self) -> None:
        if self.same_names not in get_args(SameNames):
            raise DataError(f"--same-names is {self.same_names!r}: give refuse or merge")
        if self.root.suffix.lower() in _DESCRIPTIONS and self.root.is_file():  # as YOLO takes it
            if self.data_yaml:
                raise DataError(f"{self.root} is a file, --data-yaml names another; give one")
            self.data_yaml = self.root.name
            self.root = self.root.parent
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give {self.root_holds}")
        self._config = self._read()
        self._places = Places(self.root, self._bases())
        self._splits = self._config.splits or self._usual_splits()
        self._refuse_same_names()
        self.class_names = tuple(dict.fromkeys(self._config.names.values()))
        self._images: dict[str, list[str]] = {}
        self._on_disk = FilesByForm()
        self._labels = LabelFiles(self.root)
        self._without: dict[str, int] = {}  # images without a label file, by split

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the description names, or that folders are called after."""
        return in_split_order(list(self._splits))

    def records(self, split: str) -> list[Record]:
        """List the images of a split, folder by folder, each by path. Raises DataError."""
        if split not in self._splits:
            raise DataError(
                f"split {split!r} is not in {self._config.path}; "
                f"there are: {', '.join(self.splits())}"
            )
        images = self._images.setdefault(split, self._find_images(split))
        files = [self._labels.find(image) for image in images]
        if not any(files):
            raise DataError(
                f"{self._where(split)}: none of {count_of(len(images), 'image')} has a label "
                "file; the one "
                f"of {images[0]} would be in {self._labels.looked_in(images[0])}"
            )
        self._without[split] = files.count(None)
        index = {name: number for number, name in enumerate(self.class_names)}
        records = []
        for name, image, file in zip(short_names(images), images, files, strict=True):
            ids = shown_classes(self.root / file, self._config) if file else set()
            labels = {index[self._config.names[number]] for number in ids}
            path = self._on_disk.find(self.root, image, self._where(split))
            records.append(Record(name, path, image, tuple(sorted(labels)), ()))
        return records

    def describe(self) -> list[str]:
        """Say which files were read, and what was left out."""
        lines = [f"labels: label files of YOLO, names of {self._below(self._config.path)}"]
        if self._config.made_up:
            given = self._below(self._config.path)
            lines.append(f"{given} names no class; they are called class_0, class_1, ...")
        lines += self._places.notes
        lines += [
            f"split {split}: "
            + count_of(
                num,
                "image has no label file, so it shows none of the classes",
                "images have no label file, so they show none of the classes",
            )
            for split, num in self._without.items()
            if num
        ]
        lines += self._shared()
        if len(self._without) == len(self._splits) and (left := self._labels.unused()):
            some = ", ".join(left[:_NAMED]) + (", ..." if len(left) > _NAMED else "")
            lines.append(f"left out: {count_of(len(left), 'label file')} without an image: {some}")
        names = Counter(self._config.names.values())
        return lines + [
            f"class {name}: {num} ids of this name, taken as one class"
            for name, num in names.items()
            if num > 1
        ]

    def _shared(self) -> list[str]:
        splits = list(self._images)
        pairs = [(a, b) for n, a in enumerate(splits) for b in splits[n + 1 :]]
        shared = {(a, b): len(set(self._images[a]) & set(self._images[b])) for a, b in pairs}
        return [
            f"splits {a} and {b} share {count_of(num, 'image')}"
            for (a, b), num in shared.items()
            if num
        ]

    # files

    def _read(self) -> YoloConfig:
        """Read the file that names the classes."""
        path = (
            inside(self.root, self.data_yaml, "--data-yaml")
            if self.data_yaml
            else self._description()
        )
        if path is None:
            path = next(
                (self.root / name for name in _NAME_LISTS if (self.root / name).is_file()), None
            )
            if path is None:
                raise DataError(self._hint())
            return YoloConfig(path, read_names(path))
        return read_darknet(path) if path.suffix.lower() == ".data" else read_yaml(path)

    def _description(self) -> Path | None:
        """Find data.yaml, or the only other file of the kind."""
        there = [
            path
            for path in sorted(self.root.iterdir())
            if path.is_file() and not is_junk(path.name)
        ]
        for suffixes in (_DESCRIPTIONS[:2], _DESCRIPTIONS[2:]):
            found = [path for path in there if path.suffix.lower() in suffixes]
            usual = [path for path in found if path.stem.lower() == "data"]
            if len(usual or found) > 1:
                names = ", ".join(path.name for path in (usual or found)[:_NAMED])
                raise DataError(f"{self.root} holds {names}; name one with --data-yaml")
            if found:
                return (usual or found)[0]
        return None

    def _hint(self) -> str:
        below = sorted(
            path for path in self.root.glob("*/data.yaml") if not is_junk(path.parent.name)
        )
        if below:
            return f"{self.root} holds {self._below(below[0])}; give --root {below[0].parent}"
        above = next((path for path in self.root.absolute().parents if _is_described(path)), None)
        if above is not None:
            return f"{self.root} holds no data.yaml, {above} does; give --root {above}"
        return (
            f"{self.root} holds no data.yaml and no classes.txt; give {self.root_holds}, or name "
            "it with --data-yaml"
        )

    def _bases(self) -> tuple[Path, ...]:
        """List the folders from which paths may count: `path:` first, where it is below root."""
        own = self._config.path.parent
        base = self._config.base.replace("\\", "/")
        found = []
        for start in (own, self.root):
            path = (start / base).resolve()
            if base and path.is_dir() and path.is_relative_to(self.root.resolve()):
                found.append(self.root / path.relative_to(self.root.resolve()))
        return tuple(dict.fromkeys((*found, own, self.root)))

    def _usual_splits(self) -> dict[str, tuple[str, ...]]:
        """Find the splits where nothing names them: images/train, train/images, or split all."""
        found: dict[str, tuple[str, ...]] = {}
        for pattern, depth in (("images/*/", -1), ("*/images/", -2)):
            for path in sorted(self.root.glob(pattern)):
                split = split_of(path.parts[depth])
                if split in found:
                    raise DataError(
                        f"{self.root} holds {found[split][0]} and {self._below(path)}, both for "
                        f"split {split}; keep one"
                    )
                if split:
                    found[split] = (self._below(path),)
            if found:
                return found
        return {"all": ("images",)} if (self.root / "images").is_dir() else {"all": (".",)}

    def _find_images(self, split: str) -> list[str]:
        """List the images of a split, each once. Raises DataError."""
        where = self._where(split)
        found: dict[str, str] = {}
        for place in self._splits[split]:
            images = self._places.images(place, where)
            if not images:
                raise DataError(
                    f"{where}: {place!r} holds no image; fill it, or leave it out with --splits"
                )
            for image in images:
                if image in found:
                    raise DataError(
                        f"{where}: image {image} is in {found[image]!r} already; list it once"
                    )
                found[image] = place
        return list(found)

    def _refuse_same_names(self) -> None:
        seen: dict[str, int] = {}
        for number, name in self._config.names.items():
            if name in seen and self.same_names == "refuse":
                raise DataError(
                    f"{self._config.path}: class {number} is named {name!r}, as class {seen[name]} "
                    "is; rename one of them, or make them one class with --same-names merge"
                )
            seen[name] = number

    def _where(self, split: str) -> str:
        return f"{self._config.path}: {split}"

    def _below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _is_described(folder: Path) -> bool:
    return (folder / "data.yaml").is_file()
