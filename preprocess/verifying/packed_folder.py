"""Read the metadata of a split: index.json, or packing.json of an unfinished one, and samples.npy."""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.packing.folder_state import finished_entries
from preprocess.packing.index_file import npy, statistics
from preprocess.packing.index_tables import full_rows, listed_entries
from preprocess.packing.resume import Entry, entries_as_json, holds, read_entries, why_no_sequence
from shards.disk.format import (
    ACCEPTED_NAME,
    CONTENTS,
    FORMAT_NAME,
    FORMAT_VERSION,
    INDEX_NAME,
    PROGRESS_NAME,
    REJECTED_NAME,
    ROWS_NAME,
    SAMPLES_NAME,
    TABLE_NAMES,
    TABLES_VERSION,
    finished_name,
)
from shards.disk.tables import Tables, open_tables
from shards.errors import FormatError, one_line
from shards.identity import content_digests
from shards.index import map_samples


@dataclass(frozen=True, eq=False)
class Written:
    """The metadata of a split; `wrong` lists what in it is impossible.

    `name` is the file that was read, "" where there is none; `entries` are empty where it cannot be
    used. `samples` is the array of samples.npy, or of rows.npy, why it cannot be used, or None in
    an unfinished folder, which need not have it.
    """

    split: str  # the folder's name, unless it was renamed: then what index and shards agree on
    name: str = ""
    described: dict[str, Any] | None = None
    entries: tuple[Entry, ...] = ()
    samples: np.ndarray | str | None = None
    wrong: tuple[str, ...] = ()
    is_foreign: bool = False  # of another version: not to be touched
    in_place: bool = False  # the shards are links to another writer's tars

    @property
    def has_tables(self) -> bool:
        """Tell whether it is of version 2."""
        return (self.described or {}).get("version") == TABLES_VERSION

    @property
    def rows_name(self) -> str:
        """Name the file of the samples."""
        return ROWS_NAME if self.has_tables else SAMPLES_NAME

    @property
    def listed(self) -> dict[str, Any]:
        """Describe the split with its shards, as version 1 does."""
        return {**(self.described or {}), "shards": entries_as_json(self.entries)}

    @property
    def num_classes(self) -> int:
        """Count the classes; 0 where that is not known."""
        return len((self.described or {}).get("class_names", ()))

    @property
    def members(self) -> tuple[str, ...]:
        """List the suffixes of a sample's images; none where they are not known."""
        return tuple((self.described or {}).get("image", {}).get("members", ()))

    @property
    def task(self) -> str:
        return (self.described or {}).get("task", "")

    @property
    def checksums(self) -> dict[str, str]:
        """Map checksums to names of shards."""
        return {entry.sha256: entry.name for entry in self.entries}

    def bare(self) -> "Written":
        """Leave out what need not go to a worker with every shard: what there is of all shards."""
        described = self.described
        if described and not self.has_tables:
            described = {name: value for name, value in described.items() if name != "shards"}
        return replace(self, described=described, entries=(), samples=None, wrong=())

    def is_ours(self, name: str) -> bool:
        """Tell whether a file belongs to a packed split."""
        names = (INDEX_NAME, PROGRESS_NAME, SAMPLES_NAME, REJECTED_NAME, ACCEPTED_NAME)
        return (
            name in (*names, *TABLE_NAMES)
            or re.fullmatch(rf"{re.escape(self.split)}-\d{{6,}}\.(tar|idx)", name) is not None
        )

    def is_temporary(self, name: str) -> bool:
        """Tell whether a file is one of ours that was never finished."""
        return self.is_ours(finished_name(name))

    def is_surplus(self, name: str) -> bool:
        """Tell whether a file is a shard, or a shard's index, that is not listed."""
        return (
            self.is_ours(name)
            and name.endswith((".tar", ".idx"))
            and Path(name).stem not in self._stems
        )

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(Path(entry.name).stem for entry in self.entries)

    def with_statistics(self, samples: np.ndarray, keys: np.ndarray | None) -> dict[str, Any]:
        """Describe the split again, with counts and statistics computed from samples and shards.
        `keys` are those of version 2, which tells digests of both.
        """
        assert self.described is not None
        told = self.described["statistics"]
        # of version 2: an estimate, which nothing here depends on
        kept = {name: told[name] for name in ("shard_correlation",) if name in told}
        digests = {}
        if keys is not None and CONTENTS in self.described:
            digests = {CONTENTS: content_digests(samples, keys)}
        return {
            **self.described,
            **digests,
            "num_samples": len(samples),
            "num_rejected": sum(len(entry.rejected) for entry in self.entries),
            "statistics": {**statistics(samples, self.entries, self.num_classes), **kept},
        }


def read_written(root: Path) -> Written:
    """Read the metadata of a split; damage is reported, not raised."""
    name = next((name for name in (INDEX_NAME, PROGRESS_NAME) if (root / name).exists()), "")
    empty = Written(root.name, name)
    if not name:
        return replace(empty, wrong=(f"there is no {INDEX_NAME}",))
    try:
        described: Any = json.loads((root / name).read_bytes())
        if not isinstance(described, dict):
            raise ValueError("no mapping")
        if name == INDEX_NAME and described.get("format") != FORMAT_NAME:
            raise ValueError(f"not the index of a {FORMAT_NAME} dataset")
        version = described.get("version")
        if name == INDEX_NAME and version not in (FORMAT_VERSION, TABLES_VERSION):
            what = (
                f"format version {version!r}, this code reads {FORMAT_VERSION} and {TABLES_VERSION}"
            )
            return replace(
                empty, wrong=(what,), is_foreign=isinstance(version, int) and version > 0
            )
        listed = {**described, "shards": listed_entries(root, described)}
        split = _split_of(root, listed)
        entries = tuple(read_entries(split, listed["shards"]))
        if name == PROGRESS_NAME:
            made = finished_entries(root, split, described)
            by_name = {entry.name: entry for entry in entries} | made
            entries = tuple(by_name[each] for each in sorted(by_name))
            return replace(
                empty,
                split=split,
                entries=entries,
                in_place=any((root / entry.name).is_symlink() for entry in entries),
            )
        _check_types(split, described)
        if broken := why_no_sequence(split, entries):
            raise ValueError(broken)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return replace(empty, wrong=(f"cannot be read ({one_line(error)})",))
    in_place = described.get("in_place", False) is True
    written = replace(empty, split=split, described=described, entries=entries, in_place=in_place)
    return replace(written, samples=_samples(root, written))


def _split_of(root: Path, described: dict[str, Any]) -> str:
    """Return the split in the metadata: readers open a folder by any name, so a renamed one is not
    damaged.
    """
    stems = {entry["name"].rpartition("-")[0] for entry in described["shards"]}
    split = described.get("split", min(stems, default=root.name))
    return split if stems == {split} and re.fullmatch(r"\w[\w.-]*", split) else root.name


def _check_types(split: str, described: dict[str, Any]) -> None:
    names = described["class_names"]
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ValueError("class_names are no list of names")
    if len(set(names)) < len(names):
        raise ValueError("class_names has a name twice")
    if described["split"] != split:
        raise ValueError(f"split is {described['split']!r}, the folder {split!r}")
    if described["task"] not in ("multilabel", "multiclass"):
        raise ValueError(f"task is {described['task']!r}")
    members = described["image"]["members"]
    if (
        not isinstance(members, list)
        or not members
        or not all(isinstance(member, str) for member in members)
    ):
        raise ValueError("image members are no list of suffixes")
    if not isinstance(described["statistics"], dict) or not re.fullmatch(
        "[0-9a-f]{64}", described["identity"]
    ):
        raise ValueError("statistics or identity are missing")


def _samples(root: Path, written: Written) -> np.ndarray | str:
    if written.has_tables:
        tables = written_tables(root, written)
        return tables if isinstance(tables, str) else tables.rows
    count = sum(entry.num_samples for entry in written.entries)
    try:
        samples = map_samples(root / SAMPLES_NAME, count, written.num_classes, len(written.members))
        # NumPy reads over odd blanks in the header and over bytes after the last row.
        return (
            samples
            if holds(root / SAMPLES_NAME, npy(samples))
            else "its bytes are not those of its rows alone"
        )
    except FormatError as error:
        return str(error).removeprefix(f"{root / SAMPLES_NAME}: ").partition("; pack")[0]


def written_tables(root: Path, written: Written) -> Tables | str:
    """Map the tables of version 2, or tell why they cannot be used."""
    assert written.described is not None
    try:
        return open_tables(root, written.described)
    except FormatError as error:
        return str(error).removeprefix(f"{root}/").rpartition(";")[0]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{INDEX_NAME} does not describe its tables ({one_line(error)})"


def told_samples(root: Path, written: Written, first: int, num: int) -> np.ndarray:
    """Read what is written of the samples of one shard, as rows of samples.npy."""
    part = slice(first, first + num)
    if not written.has_tables:
        return np.load(root / SAMPLES_NAME, mmap_mode="r")[part]
    tables = written_tables(root, written)
    if isinstance(tables, str):
        raise FormatError(f"{root}: {tables}")
    return full_rows(tables.rows[part], tables.keys[part])
