"""Read the JSON of COCO's instances: images, categories, and which categories each image shows."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

from preprocess.reading.class_names import normal_form
from preprocess.reading.json_objects import each_key_once
from preprocess.record import MAX_CLASSES
from shards.errors import DataError, count_of

MAX_JSON_BYTES = 4 << 30  # the largest of COCO has 470 MB
# fmt: off
_KEPT = frozenset((
    "images", "annotations", "categories", "id", "name", "supercategory", "file_name", "image_id", "category_id",
    "iscrowd",
))
# fmt: on


@dataclass(frozen=True)
class Category:
    """A category as the file has it; `parent` is its supercategory, empty where it has none."""

    name: str
    parent: str


@dataclass(frozen=True)
class Instances:
    """One file, checked."""

    path: Path
    categories: dict[int, Category]  # by id, in the order of ids
    images: dict[int, str]  # file names by id, in the order of the file
    # of an image's id, its categories: True where an object is no crowd
    shown: dict[int, dict[int, bool]]


def read_instances(path: Path) -> Instances:
    """Read and check a file. Raises DataError for what does not fit."""
    content = _load(path)
    categories = _categories(content, path)
    images = _images(content, path)
    if not categories or not images:
        raise DataError(
            f"{path}: {count_of(len(images), 'image')} and "
            f"{count_of(len(categories), 'category', 'categories')}; give some of "
            f"both"
        )
    return Instances(path, categories, images, _shown(content, path, categories, images))


def _categories(content: dict[str, Any], path: Path) -> dict[int, Category]:
    found: dict[int, Category] = {}
    for number, item in enumerate(_list(content, "categories", path)):
        category = _id(item, "id", f"{path}: category {number}")
        name = item.get("name")
        if not isinstance(name, str) or not name or category in found:
            raise DataError(
                f"{path}: category {category} is named {name!r}; give each category an id and name "
                f"of its own"
            )
        parent = item.get("supercategory")
        found[category] = Category(
            normal_form(name), normal_form(parent) if isinstance(parent, str) else ""
        )
    return dict(sorted(found.items()))


def _images(content: dict[str, Any], path: Path) -> dict[int, str]:
    images: dict[int, str] = {}
    ids: dict[str, int] = {}  # by file name, of which x.jpg and ./x.jpg are one
    for number, item in enumerate(_list(content, "images", path)):
        image = _id(item, "id", f"{path}: image {number}")
        name = item.get("file_name")
        if not isinstance(name, str) or image in images:
            raise DataError(
                f"{path}: image {image} has file_name {name!r}; give each image an id and a file "
                f"of its own"
            )
        name = name.replace("\\", "/")  # Windows writes train\1.jpg
        if (file := normpath(name)) in ids:
            raise DataError(
                f"{path}: images {ids[file]} and {image} are both of file {name!r}; put them under "
                f"one id"
            )
        images[image] = name
        ids[file] = image
    return images


def _shown(
    content: dict[str, Any], path: Path, categories: dict[int, Category], images: dict[int, str]
) -> dict[int, dict[int, bool]]:
    shown: dict[int, dict[int, bool]] = {}
    unknown: list[str] = []  # annotations of what is not listed
    for number, item in enumerate(_list(content, "annotations", path)):
        image, category = (
            _id(item, key, f"{path}: annotation {number}") for key in ("image_id", "category_id")
        )
        if image not in images or category not in categories:
            key, value = ("category_id", category) if image in images else ("image_id", image)
            unknown.append(f"annotation {number} has {key} {value}, which is not listed")
            continue
        crowd = item.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise DataError(f"{path}: annotation {number} has iscrowd {crowd!r}; use 0 or 1")
        of_image = shown.setdefault(image, {})
        of_image[category] = of_image.get(category, False) or not crowd
    if unknown:
        more = f" (and so have {len(unknown) - 1:,} more)" if len(unknown) > 1 else ""
        raise DataError(f"{path}: {unknown[0]}{more}; remove it, or add what it belongs to")
    return shown


def _load(path: Path) -> dict[str, Any]:
    """Parse the file; of every object only what is needed is kept, so polygons take no memory."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_JSON_BYTES + 1)
        if len(raw) > MAX_JSON_BYTES:
            raise DataError(
                f"{path} has more than {MAX_JSON_BYTES:,} bytes; it is not a file of instances, "
                f"remove it"
            )
        content = json.loads(raw, object_pairs_hook=_without_shapes)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); name the files with --annotations"
        ) from None
    except RecursionError:
        raise DataError(
            f"{path} is nested too deeply for a file of instances; replace it"
        ) from None
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); restore it") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path} holds a {type(content).__name__}, not images, annotations and categories; "
            f"replace it"
        )
    return content


def _without_shapes(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return each_key_once([(key, value) for key, value in pairs if key in _KEPT])


def _list(content: dict[str, Any], key: str, path: Path) -> Sequence[dict[str, Any]]:
    items = content.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        hint = (
            "; captions and image lists have no classes, use instances_*.json"
            if key == "categories"
            else ""
        )
        raise DataError(
            f"{path} has no list of {key}; a file of instances has images, annotations, "
            f"categories{hint}"
        )
    if key == "categories" and len(items) > MAX_CLASSES:
        raise DataError(
            f"{path} has {count_of(len(items), 'category', 'categories')}; {MAX_CLASSES:,} are "
            "the most"
        )
    return items


def _id(item: dict[str, Any], key: str, where: str) -> int:
    value = item.get(key)
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
        value = int(value)  # some tools quote their numbers
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where} has {key} {value!r}; give a whole number")
    return value
