"""Find the files of a Hugging Face dataset folder: which configuration and which split each is of."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocess.reading.json_objects import each_key_once
from preprocess.reading.paths import inside
from preprocess.reading.plain_yaml import read_plain_yaml
from preprocess.reading.small_files import read_small
from preprocess.reading.split_names import split_named, split_of
from shards.errors import DataError
from shards.host.picture_files import is_junk

SUFFIXES = (".parquet", ".arrow")
_SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?", re.ASCII)
_NO_CONFIG = ("data", "default", "parquet", "arrow")  # folders that say nothing of a configuration
_NAMED = 3  # in a line about many


@dataclass(frozen=True)
class HfFiles:
    """The files of each split, of one configuration; `config` is "" where there is only one."""

    splits: dict[str, list[Path]]
    config: str = ""
    missing: list[str] = field(default_factory=list)  # files of a numbered series


def find_files(root: Path, config: str) -> HfFiles:
    """Find the files of a configuration. Raises DataError where there are none, or several."""
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        return HfFiles(_saved(root))
    described = _described(root, config)
    if described is not None:
        return described
    groups: dict[str, list[Path]] = {}
    for path in _all_files(root):
        groups.setdefault(_config_of(path.relative_to(root)), []).append(path)
    if not groups:
        other = sorted(path.name for path in root.glob("*.csv"))
        hint = f"; a table such as {other[0]} is read by --source csv" if other else ""
        raise DataError(f"{root} holds no .parquet and no .arrow file{hint}; give another --root")
    chosen = _choose(root, config, list(groups))
    return HfFiles(_by_split(root, groups[chosen]), chosen, _missing(groups[chosen]))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises DataError."""
    try:
        content = json.loads(read_small(path), object_pairs_hook=each_key_once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not JSON ({error}); restore it") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not an object; restore it")
    return content


def read_card(root: Path) -> dict[str, Any]:
    """Read the YAML between two lines of --- at the start of README.md; empty where there is none."""
    path = root / "README.md"
    if not path.is_file():
        return {}
    try:
        lines = read_small(path).splitlines()
    except DataError:  # of a text for people nothing is needed
        return {}
    ends = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if len(ends) < 2 or ends[0] != 0:
        return {}
    card = read_plain_yaml("\n".join(lines[1 : ends[1]]), path)
    return card if isinstance(card, dict) else {}


def _all_files(root: Path) -> list[Path]:
    found = []
    for suffix in SUFFIXES:
        for path in root.rglob(f"*{suffix}"):
            below = path.relative_to(root).parts
            if (
                path.is_file()
                and not any(map(is_junk, below))
                and not path.name.startswith("cache-")
            ):
                found.append(path)
        if found:
            break
    return sorted(found)


def _choose(root: Path, wanted: str, there: Sequence[str]) -> str:
    """Choose a configuration. Raises DataError."""
    names = ", ".join(name or "(none)" for name in there[:20])
    if not wanted:
        if len(there) > 1:
            raise DataError(
                f"{root} holds several configurations: {names}; choose one with --config-name"
            )
        return there[0]
    found = [name for name in there if wanted in (name, name.rpartition("/")[2])]
    if len(found) != 1:
        raise DataError(f"{root} has no configuration {wanted!r}; there are: {names}")
    return found[0]


def _described(root: Path, wanted: str) -> HfFiles | None:
    """Return what README.md says of the files; None where it says nothing."""
    listed = read_card(root).get("configs")
    if not isinstance(listed, list):
        return None
    configs = {
        str(item.get("config_name", "default")): item
        for item in listed
        if isinstance(item, dict) and item.get("data_files") is not None
    }
    if not configs:
        return None
    chosen = _choose(root, wanted, list(configs))
    where = f"{root / 'README.md'}: configuration {chosen}"
    splits: dict[str, list[Path]] = {}
    for split, patterns in _patterns(configs[chosen]["data_files"], where):
        files = splits.setdefault(split_named(split) or split, [])
        for pattern in patterns:
            files += [path for path in _glob(root, pattern, where) if path not in files]
    empty = [split for split, files in splits.items() if not files]
    if len(empty) == len(splits):
        return None  # a card that is of another state of the folder
    if empty:
        raise DataError(
            f"{where}: no file of split {empty[0]} is here; get it, or correct the card"
        )
    several = chosen if len(configs) > 1 else ""
    return HfFiles(splits, several, _missing([path for files in splits.values() for path in files]))


def _patterns(given: Any, where: str) -> list[tuple[str, list[str]]]:
    """List (split, its patterns) of data_files: a pattern, a list, or a list by split."""
    items = given if isinstance(given, list) else [given]
    if all(isinstance(item, str) for item in items):
        return [("train", items)]
    found = []
    for item in items:
        path: Any = item.get("path") if isinstance(item, dict) else None
        paths: list[Any] = path if isinstance(path, list) else [path]
        split = item.get("split") if isinstance(item, dict) else None
        if not isinstance(split, str) or not all(isinstance(one, str) for one in paths):
            raise DataError(f"{where}: data_files has an entry without split and path; correct it")
        found.append((split, paths))
    return found


def _glob(root: Path, pattern: str, where: str) -> list[Path]:
    inside(root, pattern, where)  # no .. and no absolute one
    try:
        found = sorted(path for path in root.glob(pattern) if path.is_file())
    except (ValueError, NotImplementedError):
        raise DataError(f"{where}: {pattern[:100]!r} is no pattern of files; correct it") from None
    odd = next((path for path in found if path.suffix.lower() not in SUFFIXES), None)
    if odd is not None:
        raise DataError(f"{where}: {odd.name} is no .parquet or .arrow file, which alone are read")
    return [path for path in found if not is_junk(path.name)]


def _saved(root: Path) -> dict[str, list[Path]]:
    """Find the files of `save_to_disk`: a folder per split, or one folder."""
    if not (root / "dataset_dict.json").is_file():
        split, files = _saved_split(root)
        return {split: files}
    names = read_object(root / "dataset_dict.json").get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f"{root / 'dataset_dict.json'} lists no splits; restore it")
    found = {}
    for name in names:
        folder = inside(root, name, str(root / "dataset_dict.json"))
        found[split_named(name) or name] = _saved_split(folder)[1]
    return found


def _saved_split(folder: Path) -> tuple[str, list[Path]]:
    path = folder / "state.json"
    state = read_object(path)
    listed = state.get("_data_files")
    names = [item.get("filename") for item in listed if isinstance(item, dict)] if listed else []
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} lists no data files; restore it")
    split = state.get("_split")
    named = (split_named(split) or split) if isinstance(split, str) and split else "all"
    return named, [inside(folder, str(name), str(path)) for name in names]


def _by_split(root: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Group files by the split that their names, or else their folders, tell."""
    splits: dict[str, list[Path]] = {}
    for path in files:
        splits.setdefault(_split_of(path.relative_to(root)), []).append(path)
    if "" in splits and len(splits) > 1:
        odd = splits[""][0]
        raise DataError(
            f"{odd}: its name tells no split, those of others do; move it out of {root}"
        )
    return {split or "all": paths for split, paths in splits.items()}


def _split_of(path: Path) -> str:
    series = _SHARD.fullmatch(path.stem)
    if series:
        name = series[1]
        by_word = None if re.search(r"\d", name) else split_of(name)
        return split_named(name) or by_word or name
    own = split_named(path.stem) or split_of(path.stem)
    folders = (split_named(part) for part in reversed(path.parent.parts))
    return own or next(filter(None, folders), "")


def _config_of(path: Path) -> str:
    """Name the configuration that the folders of a file tell: those that are neither split nor data."""
    parts = [p for p in path.parent.parts if p.lower() not in _NO_CONFIG and not split_named(p)]
    return "/".join(parts)


def _missing(files: Sequence[Path]) -> list[str]:
    """Name the files that a numbered series lacks: train-00001-of-00002.parquet."""
    series: dict[tuple[Path, str, str], set[int]] = {}
    for path in files:
        found = _SHARD.fullmatch(path.stem)
        if found:
            series.setdefault((path.parent, found[1], found[3]), set()).add(int(found[2]))
    return [
        f"{name}-{number:05d}-of-{num}"
        for (_, name, num), there in series.items()
        for number in range(int(num))
        if number not in there
    ]
