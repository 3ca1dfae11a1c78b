"""What a split's folder holds already: its parts and finished shards, as index.json lists them or,
while it is packed, packing.json and a file of each finished shard in the folder `packing`.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.packing.index_file import npy
from preprocess.packing.index_tables import listed_entries
from preprocess.packing.packing_plan import PackedPart
from preprocess.packing.resume import (
    Entry,
    entries_as_json,
    read_entries,
    to_json,
    why_no_sequence,
)
from shards.disk.format import (
    DAMAGED_NAME,
    ENTRIES_NAME,
    FINISHED_NAME,
    FORMAT_NAME,
    FORMAT_VERSION,
    INDEX_NAME,
    PROGRESS_NAME,
    TABLES_VERSION,
    finished_name,
    holds_together,
    write_atomically,
)
from shards.errors import DataError, one_line


@dataclass(frozen=True)
class FolderState:
    """Parts, and entries by their shards' names.

    `num_indexed` counts the parts that index.json describes: all of them in a finished folder.
    `index` is what this index.json says, without the shards that version 2 lists elsewhere.
    """

    parts: tuple[PackedPart, ...] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)
    num_indexed: int = 0
    index: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        return 0 < len(self.parts) == self.num_indexed


@dataclass(frozen=True, eq=False)
class FinishedShard:
    """A shard that is on disk: its entry, and its rows with the CRC of each image; None where
    indexed in place, since its rows need the source.
    """

    entry: Entry
    rows: np.ndarray | None = None


def read_state(root: Path, split: str) -> FolderState:
    """Read what is finished here. Raises DataError where the folder holds anything else.

    If index.json fails its checksum, or entries.json its hash, nothing is listed: a wrong pixel sum
    cannot be detected from the shards, and a new checksum would hide it for good.
    """
    if not _is_begun(root):
        foreign = _foreign(root)
        if not _is_begun(root):  # another task may have begun it while its files were listed
            if foreign:
                raise DataError(
                    f"{root}: holds files that are no dataset, such as {min(foreign)}; choose "
                    "another --out"
                )
            return FolderState()
    path = root / INDEX_NAME
    try:
        index = _read(path)
        listed, damaged = _listed(root, index, split) if index else (None, "")
        path = root / PROGRESS_NAME
        progress = _read(path)
        path = root / (INDEX_NAME if index else PROGRESS_NAME)
        if index and listed is None:
            path = root / damaged
            _refuse_grown(path, index)
            print(f"{path}: fails its checksum; every shard is packed again", file=sys.stderr)
            return FolderState((PackedPart(index["identity"], ""),))
        if listed and not (progress and _goes_on(listed, progress)):
            parts = parts_of(listed)
            return FolderState(parts, _by_name(split, listed["shards"]), len(parts), index or {})
        assert progress is not None
        num_indexed = len(parts_of(listed)) if listed else 0
        entries = _by_name(split, [*(listed or {}).get("shards", ()), *progress["shards"]])
        entries |= finished_entries(root, split, progress)
        return FolderState(parts_of(progress), entries, num_indexed, index or {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: cannot be read ({one_line(error)}); python -m preprocess.verify {root} "
            "--repair moves what is damaged out of the way; then run the same command again"
        ) from error


def _is_begun(root: Path) -> bool:
    return any((root / name).exists() for name in (INDEX_NAME, PROGRESS_NAME))


def _foreign(root: Path) -> list[str]:
    """Name the files that are not ours where neither index.json nor packing.json is: packing.json is
    written before the first shard.
    """
    return [
        child.name
        for child in root.iterdir()
        if child.name not in (DAMAGED_NAME, FINISHED_NAME)
        and finished_name(child.name) != PROGRESS_NAME
    ]


def _refuse_grown(path: Path, index: dict[str, Any]) -> None:
    """Packing every shard again would lose what was appended from elsewhere."""
    if len(parts_of(index)) > 1:
        raise DataError(
            f"{path}: fails its checksum, and the set was appended to; python -m preprocess.verify "
            f"{path.parent} says what is wrong; restore the file from a copy"
        )


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    described = json.loads(path.read_bytes())
    if not isinstance(described, dict):
        raise ValueError("no mapping")
    if described.get("format", FORMAT_NAME) != FORMAT_NAME:
        raise DataError(f"{path}: not the index of a {FORMAT_NAME} dataset; choose another --out")
    version = described.get("version", FORMAT_VERSION)
    if version not in (FORMAT_VERSION, TABLES_VERSION):
        raise DataError(
            f"{path}: format version {version!r}, this code writes {TABLES_VERSION} and reads "
            f"{FORMAT_VERSION}; use the release that wrote it, or choose another --out"
        )
    return described


def _listed(root: Path, index: dict[str, Any], split: str) -> tuple[dict[str, Any] | None, str]:
    """Return an index.json with its shards, if it has its checksum, and shards that hold all of its
    records; else None, and the file that is damaged.
    """
    if not holds_together(index):
        return None, INDEX_NAME
    try:
        listed = {**index, "shards": listed_entries(root, index)}
    except ValueError:
        return None, ENTRIES_NAME
    entries = read_entries(split, listed["shards"])
    parts = parts_of(listed)
    is_whole = (
        why_no_sequence(split, entries) is None
        and sum(part.num_records for part in parts) == sum(entry.num_records for entry in entries)
        and sum(part.num_shards for part in parts) == len(entries)
    )
    return (listed if is_whole else None), INDEX_NAME


def _goes_on(index: dict[str, Any], progress: dict[str, Any]) -> bool:
    """Tell whether packing.json is of an append to the finished set, and not of its packing."""
    before = parts_of(index)
    now = parts_of(progress)
    return len(now) > len(before) and now[: len(before)] == before


def parts_of(described: dict[str, Any]) -> tuple[PackedPart, ...]:
    """List the parts that index.json or packing.json names."""
    if "parts" in described:
        parts = tuple(PackedPart(**values) for values in described["parts"])
    else:
        parts = (_only_part(described),)
    for part in parts:
        counts = (part.num_records, part.num_shards, part.records_per_shard)
        if any(type(count) is not int or count < 0 for count in counts):
            raise ValueError(f"a part has the numbers {counts!r}")
    if not parts or parts[0].identity != described["identity"]:
        raise ValueError("its parts are not those of its identity")
    return parts


def _only_part(described: dict[str, Any]) -> PackedPart:
    """Return the part of a set of a release that named none."""
    part = PackedPart(described["identity"], described.get("command", ""))
    if "format" in described:  # an index.json
        numbers = [values["num_records"] for values in described["shards"]]
        part = replace(part, num_records=sum(numbers), num_shards=len(numbers))
    return part


def _by_name(split: str, shards: Iterable[dict[str, Any]]) -> dict[str, Entry]:
    return {entry.name: entry for entry in read_entries(split, shards)}


def write_progress(root: Path, parts: Sequence[PackedPart], entries: Iterable[Entry]) -> None:
    """Write packing.json: the parts, and the shards that were finished before this run."""
    described = {
        "identity": parts[0].identity,
        "parts": [asdict(part) for part in parts],
        "shards": entries_as_json(entries),
    }
    write_atomically(root / PROGRESS_NAME, to_json(described), shared=True)


def write_finished(root: Path, identity: str, shard: FinishedShard) -> None:
    """Write down a finished shard of the part `identity`, so that a killed packing keeps it."""
    folder = root / FINISHED_NAME
    folder.mkdir(exist_ok=True)
    path = (folder / shard.entry.name).with_suffix(".json")
    if shard.rows is not None:
        write_atomically(path.with_suffix(".npy"), npy(shard.rows), shared=True)
    described = {"identity": identity, "entry": entries_as_json([shard.entry])[0]}
    write_atomically(path, to_json(described), shared=True)


def finished_entries(root: Path, split: str, progress: dict[str, Any]) -> dict[str, Entry]:
    """Read the entries of shards that were finished since packing.json was written."""
    identities = {part.identity for part in parts_of(progress)}
    found = []
    for path in sorted((root / FINISHED_NAME).glob("*.json")):
        described = json.loads(path.read_bytes())
        if described["identity"] in identities:
            found.append(described["entry"])
    return _by_name(split, found)


def finished_rows(root: Path, entry: Entry) -> np.ndarray | None:
    """Read the rows that were written down with a shard; None where they are not there."""
    path = (root / FINISHED_NAME / entry.name).with_suffix(".npy")
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if len(rows) == entry.num_samples else None


def finished_shard(root: Path, identity: str, name: str) -> FinishedShard | None:
    """Read what was written down of one shard of the part `identity`; None where nothing was."""
    path = (root / FINISHED_NAME / name).with_suffix(".json")
    try:
        described = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if described["identity"] != identity:
        return None
    (entry,) = read_entries(name.rpartition("-")[0], [described["entry"]])
    rows = finished_rows(root, entry)
    return None if rows is None else FinishedShard(entry, rows)


def forget_finished(root: Path, names: Iterable[str]) -> None:
    """Remove what was written down of shards that are to be made again."""
    for name in names:
        (root / FINISHED_NAME / name).with_suffix(".json").unlink(missing_ok=True)


def forget_progress(root: Path) -> None:
    """Remove what is there only while packing."""
    (root / PROGRESS_NAME).unlink(missing_ok=True)
    shutil.rmtree(root / FINISHED_NAME, ignore_errors=True)
