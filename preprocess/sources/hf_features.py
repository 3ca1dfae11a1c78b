"""What a Hugging Face dataset says of its columns: which hold images, and the names of classes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preprocess.reading.class_names import tidy
from preprocess.record import MAX_CLASSES
from preprocess.sources.hf_files import read_card, read_object
from shards.errors import DataError

_DEPTH = 8  # of features inside features
_INNER = ("feature", "sequence", "list", "large_list", "dtype", "struct")


def find_features(
    metadata: Mapping[bytes, bytes] | None, root: Path, config: str
) -> dict[str, Any]:
    """Return the features by column: as the file says, or else the JSON or the card beside it."""
    found = _of_card(read_card(root).get("dataset_info"), config)
    path = root / "dataset_infos.json"
    if path.is_file():
        infos = read_object(path)
        info = infos.get(config) or (next(iter(infos.values())) if len(infos) == 1 else None)
        if isinstance(info, dict) and isinstance(info.get("features"), dict):
            found |= info["features"]
    try:
        own = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (ValueError, RecursionError, KeyError, TypeError):
        own = None  # written by something else
    return {**found, **own} if isinstance(own, dict) else found


def is_image_feature(feature: Any) -> bool:
    """Tell a feature of images."""
    kinds = ("_type", "dtype")
    return isinstance(feature, dict) and any(
        str(feature.get(kind)).lower() == "image" for kind in kinds if feature.get(kind)
    )


def feature_at(features: Mapping[str, Any], column: str) -> Any:
    """Find the feature of a column, also of one inside another: objects.category."""
    if column in features:
        return features[column]
    found: Any = features
    for part in column.split("."):
        found = _inside(found, part)
    return found


def label_names(feature: Any, where: str, depth: int = 0) -> tuple[str, ...] | None:
    """Return the names of classes, by number, of a feature; None where it has none."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]  # how a sequence was written once
    if not isinstance(feature, dict) or depth > _DEPTH:
        return None
    if feature.get("_type") == "ClassLabel":
        return _names(feature, where)
    if isinstance(feature.get("class_label"), dict):
        return _names(feature["class_label"], where)
    for key in _INNER:
        if isinstance(feature.get(key), dict | list):
            return label_names(feature[key], where, depth + 1)
    return None


def _names(described: Mapping[str, Any], where: str) -> tuple[str, ...]:
    given = described.get("names")
    if given is None and isinstance(described.get("num_classes"), int):
        num = described["num_classes"]
        given = [str(number) for number in range(min(num, MAX_CLASSES + 1))]
    if isinstance(given, dict):
        try:
            given = [given[key] for key in sorted(given, key=int)]
        except (ValueError, TypeError):
            given = None
    if not isinstance(given, list) or not given:
        raise DataError(
            f"{where}: its classes have no names; correct the description of the column"
        )
    if len(given) > MAX_CLASSES:
        raise DataError(f"{where}: more than {MAX_CLASSES:,} classes; these are not classes")
    names = tuple(tidy(name) if isinstance(name, str) else "" for name in given)
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name or name in seen:
            raise DataError(
                f"{where}: class {number} is named {name!r}; give each class a name of its own"
            )
        seen.add(name)
    return names


def _inside(feature: Any, part: str, depth: int = 0) -> Any:
    """Find a feature inside another: in a mapping, a list of one, or a sequence of these."""
    if depth > _DEPTH:
        return None
    if isinstance(feature, list):
        named = (item for item in feature if isinstance(item, dict) and item.get("name") == part)
        found = next(named, None)
        return found if found or len(feature) != 1 else _inside(feature[0], part, depth + 1)
    if not isinstance(feature, dict):
        return None
    if part in feature:
        return feature[part]
    inner = next(
        (feature[key] for key in _INNER if isinstance(feature.get(key), dict | list)), None
    )
    return None if inner is None else _inside(inner, part, depth + 1)


def _of_card(infos: Any, config: str) -> dict[str, Any]:
    """Read the features of a card: a list of columns, each with its name, of one or more configs."""
    several = infos if isinstance(infos, list) else [infos]
    found = [info for info in several if isinstance(info, dict)]
    fits = [info for info in found if info.get("config_name") == config] or found
    listed = fits[0].get("features") if len(fits) == 1 else None
    items = listed if isinstance(listed, list) else []
    return {item["name"]: item for item in items if isinstance(item, dict) and "name" in item}
