"""The tables of a split of version 2 by address: what is checked before any is fetched, and how."""

import hashlib
import re
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from shards.disk.format import (
    INDEX_NAME,
    KEYS_NAME,
    ROWS_NAME,
    SHARD_DTYPE,
    SHARDS_NAME,
    holds_together,
    lean_row_dtype,
)
from shards.disk.rows_in_parts import RowsInParts
from shards.disk.tables import MAX_KEY_BYTES, Tables, mapped_table, open_tables
from shards.errors import FormatError
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder
from shards.remote.cached_tables import (
    AGAIN,
    MAX_SHARD_BYTES,
    NPY_HEADER_BYTES,
    HashedTable,
    LateKeys,
    SummedTable,
)
from shards.remote.patience import ObjectStore
from shards.remote.row_parts import RowParts, header_check

MAX_ROWS = 1 << 40
WHOLE_BYTES = 32 << 20  # a table of rows that is no longer comes when the split is opened
MAX_PART_BYTES = 64 << 20  # of a shard: a table of longer parts comes whole
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FetchedTables(NamedTuple):
    """What is mapped; where its files are, those of the keys and of all rows once they are here; the
    open files, which keep these in the cache. If rows come in parts: the rows for readers, who must
    not have those of `tables`, and what fetches them.
    """

    tables: Tables
    stored: dict[str, Path]
    held: list[BinaryIO]
    rows: RowsInParts | None = None
    parts: RowParts | None = None


def fetch_tables(
    address: Address,
    described: dict[str, Any],
    index_sha256: str,
    store: ObjectStore,
    folder: CacheFolder,
) -> FetchedTables:
    """Bring the tables of version 2, and map them; they stay in the cache while the files are open.
    That of the keys comes when it is asked for, and a large one of the rows part by part.

    Raises FormatError where they are not those of index.json, whose own checksum is right.
    """
    _check_counts(described, address / INDEX_NAME)
    of_shards = _shards_table(address, described, store, folder)
    held: list[BinaryIO] = [of_shards.hold()]
    stored: dict[str, Path] = {SHARDS_NAME: of_shards.path}
    counted = described["num_shards"]
    table = mapped_table(address, described, SHARDS_NAME, SHARD_DTYPE, counted, stored)
    _check_shards(table, address / SHARDS_NAME)

    def summed(name: str, crcs: str) -> SummedTable:
        own = _own_name(name, index_sha256)
        of_table = (address / name, own, described["tables"][name]["bytes"], store, folder)
        return SummedTable(_part_bytes(described, name, table), table[crcs], *of_table)

    keys = LateKeys(described, summed(KEYS_NAME, "keys_crc"), held, stored)
    whole = summed(ROWS_NAME, "rows_crc")
    starts = _starts_of_parts(described, _part_bytes(described, ROWS_NAME, table))
    if starts is None or folder.has(whole.path.name):
        held.append(whole.hold())
        stored[ROWS_NAME] = whole.path
        return FetchedTables(open_tables(address, described, stored, keys), stored, held)
    name = _own_name(f"parts of {ROWS_NAME}", index_sha256)
    parts = RowParts(address / ROWS_NAME, name, starts, table["rows_crc"], store, folder)
    held.append(parts.hold(header_check(_row_dtype(described), described["num_samples"])))
    found = open_tables(address, described, {**stored, ROWS_NAME: parts.path}, keys)
    rows = RowsInParts(found.rows, found.shards.sizes, parts.bring)
    return FetchedTables(found, stored, held, rows, parts)


def _shards_table(
    address: Address, described: dict[str, Any], store: ObjectStore, folder: CacheFolder
) -> HashedTable:
    told = described["tables"][SHARDS_NAME]
    return HashedTable(address / SHARDS_NAME, told["sha256"], told["bytes"], store, folder)


def _part_bytes(described: dict[str, Any], name: str, table: np.ndarray) -> np.ndarray:
    """Count the bytes of each shard's part of a table: int64 [S]."""
    return table["num_samples"].astype(np.int64) * _row_bytes(described, name)


def _own_name(what: str, index_sha256: str) -> str:
    """Name what has no SHA-256 of its own in the cache."""
    return hashlib.sha256(f"{what} of {index_sha256}".encode()).hexdigest()


def come_in_parts(part_bytes: np.ndarray) -> bool:
    """Tell whether rows are fetched as they are needed, by the bytes of each shard's. A small table
    is here sooner in one request; a part has to fit into memory.
    """
    longest = int(part_bytes.max(initial=0))
    return int(part_bytes.sum()) > WHOLE_BYTES and longest <= MAX_PART_BYTES


def _starts_of_parts(described: dict[str, Any], part_bytes: np.ndarray) -> np.ndarray | None:
    """Tell where each shard's rows begin in rows.npy, and where the last ones end: int64 [S + 1];
    None where it comes whole, or is none that has such rows.
    """
    num_bytes = described["tables"][ROWS_NAME]["bytes"]
    total = int(part_bytes.sum())
    is_told = total == described["num_samples"] * _row_bytes(described, ROWS_NAME)
    if not (is_told and come_in_parts(part_bytes) and 0 < num_bytes - total <= NPY_HEADER_BYTES):
        return None
    return num_bytes - total + np.concatenate([[0], np.cumsum(part_bytes)])


def _row_bytes(described: dict[str, Any], name: str) -> int:
    if name == SHARDS_NAME:
        return SHARD_DTYPE.itemsize
    if name == KEYS_NAME:
        return int(described["key_bytes"])
    return _row_dtype(described).itemsize


def _row_dtype(described: dict[str, Any]) -> np.dtype[Any]:
    return lean_row_dtype(len(described["class_names"]), len(described["image"]["members"]))


def _check_counts(described: dict[str, Any], where: Address) -> None:
    """Check what an index says of its tables before anything is fetched or written for it."""
    if not holds_together(described):
        raise FormatError(f"{where}: its checksum is wrong: it is not what was packed; {AGAIN}")
    counts = {
        "num_samples": (described["num_samples"], MAX_ROWS),
        "num_shards": (described["num_shards"], MAX_ROWS),
        "key_bytes": (described["key_bytes"], MAX_KEY_BYTES),
    }
    for what, (value, most) in counts.items():
        if type(value) is not int or not 0 <= value <= most:
            raise FormatError(f"{where}: {what} is {value!r:.40}; {AGAIN}")
    for name in (SHARDS_NAME, ROWS_NAME, KEYS_NAME):
        value = described["tables"][name]["bytes"]
        num = described["num_shards" if name == SHARDS_NAME else "num_samples"]
        most = num * _row_bytes(described, name) + NPY_HEADER_BYTES
        if type(value) is not int or not 0 <= value <= most:
            raise FormatError(f"{where}: bytes of {name} is {value!r:.40}; {AGAIN}")
    if not _SHA256.fullmatch(str(described["tables"][SHARDS_NAME]["sha256"])):
        raise FormatError(f"{where}: the checksum of {SHARDS_NAME} is no SHA-256; {AGAIN}")


def _check_shards(table: np.ndarray, where: Address) -> None:
    """Refuse counts that no shard has: a sample has a header of 512 bytes at least."""
    if (table["bytes"] > MAX_SHARD_BYTES).any() or (
        table["num_samples"] > table["bytes"] // 512
    ).any():
        raise FormatError(f"{where}: has a shard with counts that none has; {AGAIN}")
