"""Read photographs and labels from COCO's instances JSON: an image shows the classes of its annotated objects."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

from preprocess.paths import in_split_order, inside, short_names, split_of
from preprocess.record import Record, Source
from shards.commandline import option
from shards.errors import DataError

MAX_JSON_BYTES = 4 << 30  # the largest of COCO has 470 MB
_MAX_CLASSES = 100_000
_KEPT = ("images", "annotations", "categories", "id", "name", "file_name", "image_id", "category_id", "iscrowd")


@dataclass(frozen=True)
class _Instances:
    """One file, checked."""

    path: Path
    categories: dict[int, str]  # by id, in the order of ids
    images: dict[int, str]  # file names by id, in the order of the file
    shown: dict[int, dict[int, bool]]  # of an image's id, its categories: True where an object is no crowd


@dataclass
class COCO(Source):
    """A source over COCO's layout: `annotations/instances_train2017.json` beside the images in `train2017`.

    Classes are the categories in the order of their ids. A class of which an image shows only crowds (`iscrowd` 1, a
    region of many objects) is ignored there. Each JSON is a split, named by its file; all need the same categories.
    Raises DataError for what does not fit.
    """

    root_holds = "the folder that holds annotations and the folders of the images"
    example = "--root coco --out data/coco --short-side 256"

    root: Path
    annotations: str = option(
        "", "JSON files below root, several separated by commas, each a split; default: annotations/instances_*.json"
    )
    images: str = option("", "folder below root that holds the images; default: train2017 for ..._train2017.json")

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder; give {self.root_holds}")
        self._splits: dict[str, _Instances] = {}
        for split, path in self._files().items():
            self._splits[split] = _read(path)
        (first, instances), *others = self._splits.items()
        for split, other in others:
            if other.categories != instances.categories:
                differing = min(set(other.categories.items()) ^ set(instances.categories.items()))
                raise DataError(
                    f"{other.path}: category {differing[0]} ({differing[1]!r}) is not the same in {first} and {split}; "
                    "give files of one set of categories with --annotations"
                )
        self.class_names = tuple(instances.categories.values())

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the files are named after."""
        return tuple(self._splits)

    def records(self, split: str) -> list[Record]:
        """List the photographs of a split in the order of its file. Raises DataError for an unknown one."""
        if split not in self._splits:
            raise DataError(f"split {split!r} has no JSON file; there are: {', '.join(self._splits)}")
        found = self._splits[split]
        folder = self._folder(found)
        index = {category: number for number, category in enumerate(found.categories)}
        records = []
        for name, (image_id, file_name) in zip(
            short_names(list(found.images.values())), found.images.items(), strict=True
        ):
            path = inside(folder, file_name, f"{found.path}: image {image_id}")
            shown = found.shown.get(image_id, {})
            labels, ignored = (
                tuple(sorted(index[category] for category, single in shown.items() if single is wanted))
                for wanted in (True, False)
            )
            records.append(Record(name, path, path.relative_to(self.root).as_posix(), labels, ignored))
        return records

    def _files(self) -> dict[str, Path]:
        names = [name.strip() for name in self.annotations.split(",") if name.strip()]
        paths = [inside(self.root, name, "--annotations") for name in names]
        paths = paths or sorted((self.root / "annotations").glob("instances_*.json"))
        if not paths:
            there = sorted(path.relative_to(self.root).as_posix() for path in self.root.glob("**/*.json"))
            found = f"; it holds {', '.join(there[:3])}: name them with --annotations" if there else ""
            raise DataError(f"{self.root} holds no annotations/instances_*.json{found or '; give ' + self.root_holds}")
        if len(paths) == 1:
            return {split_of(paths[0].stem) or "all": paths[0]}
        files = {split_of(path.stem) or path.stem: path for path in paths}
        if len(files) < len(paths):
            raise DataError(
                f"{', '.join(path.name for path in paths)}: two of these are of one split; choose with --annotations"
            )
        return {split: files[split] for split in in_split_order(list(files))}

    def _folder(self, found: _Instances) -> Path:
        """Find the folder that holds a split's first image."""
        tail = found.path.stem.removeprefix("instances_")
        given = [self.images] if self.images else [tail, f"images/{tail}", "images", "."]
        first_id, first = next(iter(found.images.items()))
        for name in given:
            folder = inside(self.root, name, "--images")
            if inside(folder, first, f"{found.path}: image {first_id}").is_file():
                return folder
        tried = ", ".join(str(self.root / name) for name in given)
        raise DataError(
            f"{found.path}: image {first_id}, {first}, is in none of {tried}; give its folder with --images"
        )


def _read(path: Path) -> _Instances:
    content = _load(path)
    where = f"{path}: "
    categories: dict[int, str] = {}
    named: set[str] = set()
    for number, item in enumerate(_list(content, "categories", path)):
        category, name = _id(item, "id", f"{where}category {number}"), item.get("name")
        if not isinstance(name, str) or not name or name in named or category in categories:
            raise DataError(
                f"{where}category {category} is named {name!r}; give each category an id and name of its own"
            )
        categories[category] = name
        named.add(name)
    images: dict[int, str] = {}
    ids: dict[str, int] = {}  # by file name, of which x.jpg and ./x.jpg are one
    for number, item in enumerate(_list(content, "images", path)):
        image, name = _id(item, "id", f"{where}image {number}"), item.get("file_name")
        if not isinstance(name, str) or image in images:
            raise DataError(f"{where}image {image} has file_name {name!r}; give each image an id and a file of its own")
        if (file := normpath(name)) in ids:
            raise DataError(f"{where}images {ids[file]} and {image} are both of file {name!r}; put them under one id")
        images[image], ids[file] = name, image
    if not categories or not images:
        raise DataError(f"{where}{len(images)} images and {len(categories)} categories; there must be some of both")
    shown: dict[int, dict[int, bool]] = {}
    for number, item in enumerate(_list(content, "annotations", path)):
        image, category = (_id(item, key, f"{where}annotation {number}") for key in ("image_id", "category_id"))
        for key, value, known in (("image_id", image, images), ("category_id", category, categories)):
            if value not in known:
                raise DataError(
                    f"{where}annotation {number} has {key} {value}, which is not listed; remove it or add it"
                )
        crowd = item.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise DataError(f"{where}annotation {number} has iscrowd {crowd!r}; use 0 or 1")
        of_image = shown.setdefault(image, {})
        of_image[category] = of_image.get(category, False) or not crowd
    return _Instances(path, dict(sorted(categories.items())), images, shown)


def _load(path: Path) -> dict[str, Any]:
    """Parse the file; of every object only what is needed is kept, so polygons take no memory."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_JSON_BYTES + 1)
        if len(raw) > MAX_JSON_BYTES:
            raise DataError(f"{path} has more than {MAX_JSON_BYTES:,} bytes; it is no file of instances, remove it")
        content = json.loads(raw, object_hook=_without_shapes)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name the files with --annotations") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply for a file of instances; replace it") from None
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}); restore it") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not images, annotations and categories; replace it")
    return content


def _without_shapes(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item[key] for key in _KEPT if key in item}


def _list(content: dict[str, Any], key: str, path: Path) -> Sequence[dict[str, Any]]:
    items = content.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        hint = "; captions and image lists have no classes, use instances_*.json" if key == "categories" else ""
        raise DataError(f"{path} has no list of {key}; a file of instances has images, annotations, categories{hint}")
    if key == "categories" and len(items) > _MAX_CLASSES:
        raise DataError(f"{path} has {len(items):,} categories; {_MAX_CLASSES:,} are the most")
    return items


def _id(item: dict[str, Any], key: str, where: str) -> int:
    value = item.get(key)
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
        value = int(value)  # some tools quote their numbers
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where} has {key} {value!r}; give a whole number")
    return value
