"""Write the files of format version 2: tables of shards, samples and keys, then index.json."""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.packing.resume import Entry, entries_as_json, to_json
from shards.disk.format import (
    CHECKSUM,
    ENTRIES_NAME,
    FORMAT_VERSION,
    INDEX_NAME,
    KEYS_NAME,
    ROWS_NAME,
    SHARD_DTYPE,
    SHARDS_NAME,
    TABLE_NAMES,
    TABLES_VERSION,
    digest,
    lean_row_dtype,
    row_dtype,
    write_atomically,
)
from shards.disk.tables import array_crc, write_array
from shards.disk.writer import file_sha256
from shards.errors import DataError

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


def listed_entries(root: Path, described: dict[str, Any]) -> list[dict[str, Any]]:
    """Read what version 2 keeps of shards for the packer alone. Raises ValueError where it is
    damaged.
    """
    path = root / ENTRIES_NAME
    if not path.is_file() or file_sha256(path) != described["tables"][ENTRIES_NAME]["sha256"]:
        raise ValueError(f"{ENTRIES_NAME} is missing, or is not what was written")
    listed: list[dict[str, Any]] = json.loads(path.read_bytes())["shards"]
    return listed


def refuse_tables(root: Path) -> None:
    """Raise DataError for a folder of version 2: the packer writes version 1, and would undo it."""
    try:
        described = json.loads((root / INDEX_NAME).read_bytes())
        version = described.get("version")
    except (OSError, ValueError, AttributeError, RecursionError):
        return  # reported by whoever needs it
    if version == TABLES_VERSION:
        raise DataError(
            f"{root}: is of format version {version}, and the packer goes on with version "
            f"{FORMAT_VERSION} alone; python -m preprocess.verify checks it; to pack the source "
            "again choose another --out"
        )


def full_rows(rows: np.ndarray, keys: np.ndarray, num_classes: int) -> np.ndarray:
    """Make rows as of samples.npy of rows and keys of version 2; the CRCs are left out."""
    num_members = rows.dtype["length"].shape[0]
    samples = np.zeros(len(rows), row_dtype(num_classes, num_members, keys.dtype.itemsize))
    for name in samples.dtype.names or ():
        samples[name] = keys if name == "key" else rows[name]
    return samples


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
    key_dtype = samples.dtype["key"]
    starts = np.cumsum([0] + [entry.num_samples for entry in entries])
    table = np.zeros(len(entries), SHARD_DTYPE)
    table["bytes"] = [entry.bytes for entry in entries]
    table["num_samples"] = [entry.num_samples for entry in entries]
    table["sha256"] = [list(bytes.fromhex(entry.sha256)) for entry in entries]

    def parts() -> Iterator[np.ndarray]:
        for number, of_shard in enumerate(crcs):
            part = samples[starts[number] : starts[number + 1]]
            rows = lean_rows(part, of_shard, num_classes)
            table["rows_crc"][number] = array_crc(rows)
            table["keys_crc"][number] = array_crc(part["key"])
            yield rows

    dtype = lean_row_dtype(num_classes, len(described["image"]["members"]))
    write_array(root / ROWS_NAME, dtype, len(samples), parts())
    keys = (samples["key"][low:high] for low, high in pairwise(starts.tolist()))
    write_array(root / KEYS_NAME, key_dtype, len(samples), keys)
    write_array(root / SHARDS_NAME, SHARD_DTYPE, len(table), [table])
    listed = json.dumps({"shards": entries_as_json(entries)}, ensure_ascii=False)
    write_atomically(root / ENTRIES_NAME, (listed + "\n").encode(errors="backslashreplace"))
    write_atomically(root / INDEX_NAME, to_json(_described(root, described, table, key_dtype)))


def _described(
    root: Path, described: dict[str, Any], table: np.ndarray, key_dtype: np.dtype[Any]
) -> dict[str, Any]:
    """Describe a split as index.json of version 2 does: by its tables, without its shards."""
    told = {name: value for name, value in described.items() if name not in ("shards", CHECKSUM)}
    told["version"] = TABLES_VERSION
    told["num_shards"] = len(table)
    told["key_bytes"] = key_dtype.itemsize
    told["tables"] = {name: _of_file(root / name) for name in TABLE_NAMES}
    told[CHECKSUM] = digest(told)
    return told


def _of_file(path: Path) -> dict[str, Any]:
    size = {"bytes": path.stat().st_size}
    return {**size, "sha256": file_sha256(path)} if path.name in HASHED else size
