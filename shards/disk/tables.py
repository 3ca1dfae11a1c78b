"""The tables of version 2: shards, rows and keys, mapped, whatever their length."""

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from shards.disk.format import (
    INDEX_NAME,
    KEYS_NAME,
    ROWS_NAME,
    SHARD_DTYPE,
    SHARDS_NAME,
    holds_together,
    lean_row_dtype,
    shard_name,
    sync_folder,
)
from shards.disk.rows_in_parts import RowsInParts
from shards.errors import FormatError, count_of, one_line

SPLIT_NAME = re.compile(r"\w[\w.-]*")  # shards are named after it: nothing that leads elsewhere
MAX_NAME_BYTES = 255  # of a file: what common file systems allow
MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class Shard:
    """One tar of a split. `name` is relative to the split's folder."""

    name: str
    num_bytes: int
    num_samples: int
    sha256: str


class ShardTable(Sequence[Shard]):
    """The shards of a split as shards.npy has them; a `Shard` is made when it is asked for."""

    def __init__(self, split: str, table: np.ndarray) -> None:
        self.table = table
        self.sizes = table["num_samples"].astype(np.int64)
        self._split = split

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, number: int) -> Shard: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Shard]: ...

    def __getitem__(self, number: int | slice) -> Shard | Sequence[Shard]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        row = self.table[number]
        place = number % len(self)
        sha256 = row["sha256"].tobytes().hex()
        return Shard(
            shard_name(self._split, place), int(row["bytes"]), int(row["num_samples"]), sha256
        )


Keys = np.ndarray | Callable[[], np.ndarray]
Rows = np.ndarray | RowsInParts


@dataclass(frozen=True, eq=False)
class Tables:
    """What is mapped of a split: shards, rows [N] and keys, bytes [N], or what maps these when they
    are first asked for.
    """

    shards: ShardTable
    rows: np.ndarray
    stored_keys: Keys

    @property
    def keys(self) -> np.ndarray:
        """Map the keys, if that has not been done."""
        return self.stored_keys() if callable(self.stored_keys) else self.stored_keys


def open_tables(
    root: Any,
    described: dict[str, Any],
    stored: Mapping[str, Path] | None = None,
    keys: Keys | None = None,
) -> Tables:
    """Map the tables that index.json describes. Raises FormatError where they are others. `stored`
    says where they are if that is not in `root`, which messages name; `keys` are mapped, if given.

    shards.npy is hashed: 5 MB of 100,000 shards. It has the checksums of all other parts.
    """
    path = root / INDEX_NAME
    if not holds_together(described):
        raise FormatError(f"{path}: its checksum is wrong: it is not what was written; {_VERIFY}")
    split = described["split"]
    is_name = SPLIT_NAME.fullmatch(split) is not None
    if not is_name or len(shard_name(split, 0).encode()) > MAX_NAME_BYTES:
        raise FormatError(f"{path}: split {split!r:.200} is no name of a folder")
    num_samples = described["num_samples"]
    counted = described["num_shards"]
    table = mapped_table(root, described, SHARDS_NAME, SHARD_DTYPE, counted, stored)
    with open((stored or {}).get(SHARDS_NAME, root / SHARDS_NAME), "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != described["tables"][SHARDS_NAME]["sha256"]:
        raise FormatError(f"{root / SHARDS_NAME}: its checksum is wrong; {_VERIFY}")
    shards = ShardTable(described["split"], table)
    if (total := int(shards.sizes.sum())) != num_samples:
        raise FormatError(
            f"{root / SHARDS_NAME}: its shards hold {count_of(total, 'sample')}, {INDEX_NAME} says "
            f"{num_samples}; {_VERIFY}"
        )
    num_classes = len(described["class_names"])
    dtype = lean_row_dtype(num_classes, len(described["image"]["members"]))
    rows = mapped_table(root, described, ROWS_NAME, dtype, num_samples, stored)
    if keys is None:
        keys = mapped_keys(root, described, stored)
    return Tables(shards, rows, keys)


def mapped_keys(
    root: Any, described: dict[str, Any], stored: Mapping[str, Path] | None = None
) -> np.ndarray:
    """Map keys.npy: bytes [N]. Raises FormatError where it is another."""
    dtype = np.dtype(f"S{described['key_bytes']}")
    return mapped_table(root, described, KEYS_NAME, dtype, described["num_samples"], stored)


def mapped_table(
    root: Any,
    described: dict[str, Any],
    name: str,
    dtype: np.dtype[Any],
    num: int,
    stored: Mapping[str, Path] | None = None,
) -> np.ndarray:
    """Map one table, its size, type and length compared. Raises FormatError."""
    path = root / name
    file = (stored or {}).get(name, path)
    told = described["tables"][name]["bytes"]
    try:
        found = file.stat().st_size
    except OSError as error:
        raise FormatError(f"{path}: cannot be opened ({error.strerror}); {_VERIFY}") from error
    if found != told:
        raise FormatError(
            f"{path}: has {count_of(found, 'byte')}, {INDEX_NAME} says {told}; {_VERIFY}"
        )
    table = map_array(file, path)
    if table.dtype != dtype or table.shape != (num,):
        raise FormatError(
            f"{path}: {table.shape} of {table.dtype}, {INDEX_NAME} says {num} of {dtype}; {_VERIFY}"
        )
    return table


def map_array(path: Path, named: Any = None) -> np.ndarray:
    """Map a file of one array. Raises FormatError, which names it as `named`, where given."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("not a single array")
    except Exception as error:  # on hostile headers numpy's parser raises almost anything
        raise FormatError(
            f"{named or path}: cannot be read ({one_line(error)}); pack this split again"
        ) from error
    return np.asarray(found)  # still mapped; indexing np.memmap itself goes through Python


def write_array(path: Path, dtype: np.dtype[Any], num: int, parts: Iterable[np.ndarray]) -> None:
    """Write an array of `num` elements, part after part, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (num,)}
    try:
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                file.write(np.ascontiguousarray(part).view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_folder(path.parent)


def array_crc(values: np.ndarray) -> int:
    """Compute the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data)


_VERIFY = "python -m preprocess.verify says what is damaged, and --repair restores it"
