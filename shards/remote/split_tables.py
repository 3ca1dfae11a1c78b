"""The tables of a split of version 2 by address: what is checked before any is fetched, and how."""

import hashlib
import re
from dataclasses import replace
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
    open files, which keep these in the cache; and what fetches rows, if they come in parts.
    """

    tables: Tables
    stored: dict[str, Path]
    held: list[BinaryIO]
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
    tables = described["tables"]
    of_shards = HashedTable(
        address / SHARDS_NAME,
        tables[SHARDS_NAME]["sha256"],
        tables[SHARDS_NAME]["bytes"],
        store,
        folder,
    )
    held = [of_shards.hold()]
    stored: dict[str, Path] = {SHARDS_NAME: of_shards.path}
    counted = described["num_shards"]
    table = mapped_table(address, described, SHARDS_NAME, SHARD_DTYPE, counted, stored)
    _check_shards(table, address / SHARDS_NAME)
    summed = {}
    for name, crcs in ((ROWS_NAME, "rows_crc"), (KEYS_NAME, "keys_crc")):
        own = _own_name(name, index_sha256)
        part_bytes = table["num_samples"].astype(np.int64) * _row_bytes(described, name)
        of_table = (address / name, own, tables[name]["bytes"], store, folder)
        summed[name] = SummedTable(part_bytes, table[crcs], *of_table)
    keys = LateKeys(described, summed[KEYS_NAME], held, stored)
    if _comes_in_parts(described, table) and not folder.has(summed[ROWS_NAME].path.name):
        name = _own_name(f"parts of {ROWS_NAME}", index_sha256)
        starts = tables[ROWS_NAME]["bytes"] - _rest_bytes(described, table)
        parts = RowParts(address / ROWS_NAME, name, starts, table["rows_crc"], store, folder)
        held.append(parts.hold(header_check(_row_dtype(described), described["num_samples"])))
        found = open_tables(address, described, {**stored, ROWS_NAME: parts.path}, keys)
        assert isinstance(found.rows, np.ndarray)
        rows = RowsInParts(found.rows, found.shards.sizes, parts.bring)
        return FetchedTables(replace(found, rows=rows), stored, held, parts)
    held.append(summed[ROWS_NAME].hold())
    stored[ROWS_NAME] = summed[ROWS_NAME].path
    return FetchedTables(open_tables(address, described, stored, keys), stored, held)


def _own_name(what: str, index_sha256: str) -> str:
    """Name what has no SHA-256 of its own in the cache."""
    return hashlib.sha256(f"{what} of {index_sha256}".encode()).hexdigest()


def _comes_in_parts(described: dict[str, Any], table: np.ndarray) -> bool:
    """Tell whether rows are fetched as they are needed. A small table is sooner here in one request;
    parts have to fit into memory.
    """
    num_bytes = described["tables"][ROWS_NAME]["bytes"]
    rest = _rest_bytes(described, table)
    head_bytes = num_bytes - int(rest[0])
    longest = int(-np.diff(rest).min(initial=0))
    return (
        num_bytes > WHOLE_BYTES
        and longest <= MAX_PART_BYTES
        and 0 < head_bytes <= NPY_HEADER_BYTES
        and int(table["num_samples"].sum()) == described["num_samples"]
    )


def _rest_bytes(described: dict[str, Any], table: np.ndarray) -> np.ndarray:
    """Count the bytes of rows.npy from each shard's rows on: int64 [S + 1], the last one 0."""
    ends = np.cumsum(table["num_samples"].astype(np.int64)) * _row_bytes(described, ROWS_NAME)
    return ends[-1:].sum() - np.concatenate([[0], ends])


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
