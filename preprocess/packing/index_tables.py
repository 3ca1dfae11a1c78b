"""Write the files of format version 2: tables of shards, samples and keys, then index.json."""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.packing.index_file import samples_array
from preprocess.packing.resume import Entry, entries_as_json, holds, to_json
from shards.disk.format import (
    CHECKSUM,
    CONTENTS,
    ENTRIES_NAME,
    INDEX_NAME,
    KEYS_NAME,
    ROWS_NAME,
    SHARD_DTYPE,
    SHARDS_NAME,
    TABLE_NAMES,
    TABLES_VERSION,
    digest,
    lean_row_dtype,
    unpack_labels,
    write_atomically,
)
from shards.disk.tables import array_crc, open_tables, write_array
from shards.disk.writer import SampleRow, file_sha256
from shards.errors import FormatError
from shards.identity import content_digests
from shards.order.mixing import sampled_correlation

HASHED = (SHARDS_NAME, ENTRIES_NAME)  # what else each is worth follows from CRCs in shards.npy


def image_crcs(path: Path, rows: np.ndarray) -> np.ndarray:
    """Compute the CRC-32 of the images of some rows of a shard: uint32 [N, M]."""
    crcs = np.zeros(rows["length"].shape, np.uint32)
    shard = np.memmap(path, np.uint8, "r")
    for number, (starts, lengths) in enumerate(
        zip(rows["offset"].tolist(), rows["length"].tolist(), strict=True)
    ):
        images = zip(starts, lengths, strict=True)
        crcs[number] = [zlib.crc32(shard[start : start + num].data) for start, num in images]
    return crcs


def checked_crcs(root: Path, entry: Entry, number: int, rows: np.ndarray, file: str) -> np.ndarray:
    """Compute the CRC-32 of the images of shard `number`, whose rows are from `file`: uint32 [N, M].

    Raises FormatError where the shard does not have its checksum, or the rows are not of it: its
    CRCs would make damage look right.
    """
    path = root / entry.name
    if file_sha256(path) != entry.sha256:
        raise FormatError(
            f"{path}: its checksum is wrong; python -m preprocess.verify {root} --repair, then "
            "run the same preprocess.shard command again"
        )
    ends = rows["offset"].astype(np.int64) + rows["length"]
    if (rows["shard"] != number).any() or (ends > entry.bytes).any():
        raise FormatError(
            f"{root / file}: has rows of {entry.name} that are not of it; python -m "
            f"preprocess.verify {root} --repair"
        )
    return image_crcs(path, rows)


def listed_entries(root: Path, described: dict[str, Any]) -> list[dict[str, Any]]:
    """Read what index.json lists of shards, or what version 2 keeps of them for the packer alone.
    Raises ValueError where that is damaged.
    """
    listed: list[dict[str, Any]]
    if described.get("version") != TABLES_VERSION:
        listed = described["shards"]
        return listed
    path = root / ENTRIES_NAME
    if not path.is_file() or file_sha256(path) != described["tables"][ENTRIES_NAME]["sha256"]:
        raise ValueError(f"{ENTRIES_NAME} is missing, or is not what was written")
    listed = json.loads(path.read_bytes())["shards"]
    return listed


def with_crcs(samples: np.ndarray, crcs: np.ndarray) -> np.ndarray:
    """Make rows as they are kept with a finished shard: those of samples.npy, and `crc` behind."""
    rows = np.zeros(
        len(samples), np.dtype([*samples.dtype.descr, ("crc", "<u4", (crcs.shape[1],))])
    )
    for name in samples.dtype.names or ():
        rows[name] = samples[name]
    rows["crc"] = crcs
    return rows


def packed_rows(
    number: int, rows: Sequence[SampleRow], num_classes: int, num_members: int
) -> np.ndarray:
    """Make the rows that are kept with shard `number`, which was packed now."""
    samples = samples_array([(number, row) for row in rows], num_classes, num_members)
    crcs = np.array([row.crc for row in rows], np.uint32)
    return with_crcs(samples, crcs.reshape(len(rows), num_members))


def full_rows(rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Make rows as of samples.npy, with CRCs behind, of rows and keys of version 2."""
    fields = [field for field in rows.dtype.descr if field[0] != "crc"]
    samples = np.zeros(len(rows), np.dtype([*fields, ("key", keys.dtype)]))
    for name, *_ in fields:
        samples[name] = rows[name]
    samples["key"] = keys
    return with_crcs(samples, rows["crc"])


def lean_rows(samples: np.ndarray, crcs: np.ndarray, num_classes: int) -> np.ndarray:
    """Make rows of rows.npy of rows of samples.npy and the CRCs of their images."""
    rows = np.zeros(len(samples), lean_row_dtype(num_classes, crcs.shape[1]))
    rows["crc"] = crcs
    for name in rows.dtype.names or ():
        if name != "crc":
            rows[name] = samples[name]
    return rows


def write_tables(
    root: Path,
    described: dict[str, Any],
    samples: np.ndarray,
    crcs: Iterable[np.ndarray],
    entries: Sequence[Entry],
) -> None:
    """Write a split as version 2; it is one when index.json, the last file, has its name.

    `described` is what index.json of version 1 holds, or would hold; `samples` are rows as of
    samples.npy, and `crcs` each shard's, in order, uint32 [num_samples, M].
    """
    num_classes = len(described["class_names"])
    table = _bare_table(entries)

    def parts() -> Iterator[np.ndarray]:
        for number, (part, of_shard) in enumerate(zip(_parts(samples, entries), crcs, strict=True)):
            rows = lean_rows(part, of_shard, num_classes)
            _sum_up(table, number, rows, part["key"])
            yield rows

    dtype = lean_row_dtype(num_classes, len(described["image"]["members"]))
    write_array(root / ROWS_NAME, dtype, len(samples), parts())
    keys = (part["key"] for part in _parts(samples, entries))
    write_array(root / KEYS_NAME, samples.dtype["key"], len(samples), keys)
    write_array(root / SHARDS_NAME, SHARD_DTYPE, len(table), [table])
    write_atomically(root / ENTRIES_NAME, _entries_json(entries))
    write_atomically(root / INDEX_NAME, to_json(_described(root, described, table, samples)))


def holds_tables(
    root: Path, described: dict[str, Any], rows: np.ndarray, entries: Sequence[Entry]
) -> bool:
    """Tell whether `write_tables` would write what is there. `rows` have their CRCs."""
    num_classes = len(described["class_names"])
    try:
        stored = open_tables(root, json.loads((root / INDEX_NAME).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError):
        return False
    if stored.rows.shape != rows.shape or stored.keys.dtype != rows.dtype["key"]:
        return False
    table = _bare_table(entries)
    for number, part in enumerate(_parts(rows, entries)):
        _sum_up(table, number, lean_rows(part, part["crc"], num_classes), part["key"])
    there = _bare_table(entries)
    pairs = zip(_parts(stored.rows, entries), _parts(stored.keys, entries), strict=True)
    for number, (of_rows, of_keys) in enumerate(pairs):
        _sum_up(there, number, of_rows, of_keys)
    return (
        stored.shards.table.tobytes() == table.tobytes() == there.tobytes()
        and holds(root / ENTRIES_NAME, _entries_json(entries))
        and holds(root / INDEX_NAME, to_json(_described(root, described, table, rows)))
    )


def _bare_table(entries: Sequence[Entry]) -> np.ndarray:
    """Make shards.npy without its CRCs."""
    table = np.zeros(len(entries), SHARD_DTYPE)
    table["bytes"] = [entry.bytes for entry in entries]
    table["num_samples"] = [entry.num_samples for entry in entries]
    table["sha256"] = [list(bytes.fromhex(entry.sha256)) for entry in entries]
    return table


def _sum_up(table: np.ndarray, number: int, rows: np.ndarray, keys: np.ndarray) -> None:
    table["rows_crc"][number] = array_crc(rows)
    table["keys_crc"][number] = array_crc(keys)


def _parts(array: np.ndarray, entries: Sequence[Entry]) -> Iterator[np.ndarray]:
    """Cut an array of all samples into those of each shard."""
    starts = np.cumsum([0] + [entry.num_samples for entry in entries])
    return (array[low:high] for low, high in pairwise(starts.tolist()))


def _entries_json(entries: Sequence[Entry]) -> bytes:
    listed = json.dumps({"shards": entries_as_json(entries)}, ensure_ascii=False)
    return (listed + "\n").encode(errors="backslashreplace")


def _described(
    root: Path, described: dict[str, Any], table: np.ndarray, samples: np.ndarray
) -> dict[str, Any]:
    """Describe a split as index.json of version 2 does: by its tables, without its shards."""
    own = ("shards", "num_shards", "key_bytes", CONTENTS, "tables", CHECKSUM)
    told = {name: value for name, value in described.items() if name not in own}
    told["version"] = TABLES_VERSION
    correlation = _correlation(told, table, samples)
    told["statistics"] = {**told["statistics"], "shard_correlation": correlation}
    told["num_shards"] = len(table)
    told["key_bytes"] = samples.dtype["key"].itemsize
    told[CONTENTS] = content_digests(samples, samples["key"])
    told["tables"] = {name: _of_file(root / name) for name in TABLE_NAMES}
    told[CHECKSUM] = digest(told)
    return told


def _correlation(described: dict[str, Any], table: np.ndarray, samples: np.ndarray) -> float:
    """Tell how alike the labels of one shard are."""
    num_classes = len(described["class_names"])

    def labels_of(part: slice) -> np.ndarray:
        return unpack_labels(samples["labels"][part], num_classes)

    return round(sampled_correlation(table["num_samples"].astype(np.int64), labels_of), 4)


def _of_file(path: Path) -> dict[str, Any]:
    size = {"bytes": path.stat().st_size}
    return {**size, "sha256": file_sha256(path)} if path.name in HASHED else size
