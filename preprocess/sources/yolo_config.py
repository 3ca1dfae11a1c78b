"""Read what describes a YOLO dataset: `data.yaml`, or Darknet's `obj.data` and list of names."""

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocess.reading.class_names import tidy
from preprocess.reading.plain_yaml import EMPTY, read_plain_yaml
from preprocess.reading.small_files import read_small
from preprocess.reading.split_names import split_named
from preprocess.record import MAX_CLASSES
from shards.errors import DataError, count_of

_SHOWN = 60


@dataclass(frozen=True)
class YoloConfig:
    """What a file says of a dataset. `splits` are the folders and lists that it gives for each."""

    path: Path
    names: dict[int, str]  # by class id, in the order of ids
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    base: str = ""  # what `path:` names
    keypoints: int = 0  # numbers that follow the box in each line, of a pose dataset
    made_up: bool = False  # the file gives only the number of classes


def read_yaml(path: Path) -> YoloConfig:
    """Read a `data.yaml`. Raises DataError for what does not fit."""
    content = read_plain_yaml(read_small(path), path)
    if not isinstance(content, dict) or not any(key in content for key in ("names", "nc")):
        raise DataError(f"{path} has no names; a data.yaml has names, and train and val")
    names = content.get("names")
    if names is None or isinstance(names, str):
        num = _number(content, "nc", path)
        if num is None or names not in (None, *EMPTY):
            raise DataError(f"{path}: names is {_short(names)}; give a list, or id: name")
        classes = {number: f"class_{number}" for number in range(num)}
    else:
        classes = _names(names, path)
        num = _number(content, "nc", path)
        if num is not None and num != len(classes):
            raise DataError(f"{path}: nc is {num}, but names has {len(classes):,}; make them agree")
    base = content.get("path") or ""
    if not isinstance(base, str):
        raise DataError(f"{path}: path is a list or mapping; give one folder")
    base = "" if base.lower() in EMPTY else base
    points = _keypoints(content, path)
    made_up = names is None or isinstance(names, str)
    return YoloConfig(path, classes, _splits(content, path), base, points, made_up)


def read_names(path: Path) -> dict[int, str]:
    """Read a list of names, one a line: `classes.txt` or `obj.names`. Raises DataError."""
    lines = read_small(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return _names(lines, path)


def read_darknet(path: Path) -> YoloConfig:
    """Read an `obj.data`, lines of `key = value`, and its list of names. Raises DataError.

    The paths in it are those of the machine that trained: files are looked for beside it too.
    """
    content: dict[str, str] = {}
    for number, line in enumerate(read_small(path).splitlines(), 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals or key in content:
            what = "is there twice" if equals else "is no `key = value`"
            raise DataError(f"{path}:{number}: {line.strip()[:_SHOWN]!r} {what}; correct the line")
        content[key] = value
    listed = path.parent / Path(content.get("names", "").replace("\\", "/")).name
    if not content.get("names") or not listed.is_file():
        raise DataError(
            f"{path} gives no list of names that is in the same folder; add names = obj.names"
        )
    names = read_names(listed)
    num = _number(content, "classes", path)
    if num is not None and num != len(names):
        raise DataError(
            f"{path}: classes is {num}, but {listed} has {count_of(len(names), 'name')}; make "
            "them agree"
        )
    beside = {key: Path(value.replace("\\", "/")).name for key, value in content.items()}
    near = {
        key: beside[key] if (path.parent / beside[key]).is_file() else value
        for key, value in content.items()
    }
    return YoloConfig(path, names, _splits(near, path))


def _names(given: Any, path: Path) -> dict[int, str]:
    """Number the classes: a list counts from 0, a mapping gives the ids."""
    pairs = given.items() if isinstance(given, dict) else enumerate(given)
    if not isinstance(given, dict | list) or not given:
        raise DataError(f"{path}: names is empty; give a list, or id: name")
    if len(given) > MAX_CLASSES:
        raise DataError(
            f"{path}: names has {count_of(len(given), 'class')}; {MAX_CLASSES:,} are the most"
        )
    found: dict[int, str] = {}
    for key, value in pairs:
        if not re.fullmatch(r"\d{1,9}", str(key)[:_SHOWN]):
            raise DataError(
                f"{path}: names has key {str(key)[:_SHOWN]!r}; number the classes from 0"
            )
        name = tidy(value) if isinstance(value, str) else ""
        if not name:
            raise DataError(f"{path}: class {key} has no name, or it is no text; give it one")
        if int(key) in found:
            raise DataError(f"{path}: class {int(key)} is in names twice; keep one of them")
        found[int(key)] = name
    return dict(sorted(found.items()))


def _number(content: Mapping[str, Any], key: str, path: Path) -> int | None:
    value = content.get(key)
    if value is None or (isinstance(value, str) and value.lower() in EMPTY):
        return None
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,9}", value):
        raise DataError(f"{path}: {key} is {_short(value)}; give the number of classes")
    if not 0 < int(value) <= MAX_CLASSES:
        raise DataError(f"{path}: {key} is {value}; give 1 to {MAX_CLASSES:,}")
    return int(value)


def _keypoints(content: Mapping[str, Any], path: Path) -> int:
    """Return how many numbers the points of a pose add to a line: `kpt_shape: [17, 3]` gives 51."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    ok = isinstance(shape, list) and len(shape) == 2
    if not ok or not all(isinstance(n, str) and re.fullmatch(r"\d{1,4}", n) for n in shape):
        raise DataError(f"{path}: kpt_shape is {_short(shape)}; give two numbers, as [17, 3]")
    return int(shape[0]) * int(shape[1])


def _short(value: Any) -> str:
    """Quote a value for a message, bounded also where YAML's aliases make it endless."""
    return reprlib.repr(value)[:_SHOWN]


def _splits(content: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    """Find the splits: keys called train, val, valid or test, with a folder, a list, or several."""
    found: dict[str, tuple[str, ...]] = {}
    keys: dict[str, str] = {}
    for key, value in content.items():
        split = split_named(key) if isinstance(key, str) else None
        if split is None or value is None:
            continue
        places = value if isinstance(value, list) else [value]
        if not all(isinstance(place, str) for place in places) or (
            isinstance(value, list) and not value
        ):
            raise DataError(
                f"{path}: {key} is {_short(value)}; give a folder or list file, or several"
            )
        places = [place.strip() for place in places if place.strip().lower() not in EMPTY]
        if not places:
            continue  # `test:` is often left empty
        if split in found:
            raise DataError(f"{path}: {keys[split]} and {key} are one split; keep one of them")
        found[split] = tuple(places)
        keys[split] = key
    return found
