"""Open a split by its address: its index and its rows are fetched, checked and kept in the cache.

Of format version 1 that takes three requests: index.json, and samples.npy twice, as nothing says
what its bytes are; of version 2 index.json and two tables, the keys when they are asked for. No
folder is listed, ever.
"""

import hashlib
import io
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.disk.format import (
    DAMAGED_NAME,
    INDEX_NAME,
    SAMPLES_NAME,
    TABLES_VERSION,
    holds_together,
    row_dtype,
)
from shards.disk.rows_in_parts import RowsInParts
from shards.disk.tables import Shard, Tables
from shards.errors import DataError, FormatError
from shards.index import DatasetIndex, map_samples, members_of, parse_description
from shards.remote import patience
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder, Part
from shards.remote.cached_tables import (
    AGAIN,
    MAX_SHARD_BYTES,
    NPY_HEADER_BYTES,
    ReadTwice,
)
from shards.remote.fetch_ahead import FollowedShards
from shards.remote.marked_folder import default_folder
from shards.remote.patience import MissingError, ObjectChangedError, ObjectStore, UnreachableError
from shards.remote.split_tables import fetch_tables
from shards.remote.transfer import Transfer, open_store

MAX_INDEX_BYTES = 1 << 28  # 10^6 shards are 250 MB of JSON
OWN_KEY_BYTES = 64  # shards.disk.writer.KEY
FOREIGN_KEY_BYTES = 4096
SPLITS = ("train", "val", "test")  # asked for by name where no folder can be listed
_SHA256 = re.compile(r"[0-9a-f]{64}")


def open_remote(
    address: Address, cache_dir: str = "", cache_gb: float = 0.0, index_sha256: str = ""
) -> DatasetIndex:
    """Open the split at an address; `index_sha256` says which index.json it must have, if given.

    Raises DataError where it cannot be fetched, FormatError where it is not what it should be.
    """
    folder = CacheFolder(Path(cache_dir) if cache_dir else default_folder(), cache_gb)
    store = open_store(address)
    data = _index_bytes(address, store, folder, index_sha256)
    where = address / INDEX_NAME
    described = parse_description(data, where)
    sha256 = hashlib.sha256(data).hexdigest()
    tables: Tables | np.ndarray
    rows: RowsInParts | None = None
    try:
        members_of(described, address)
        if described["version"] == TABLES_VERSION:
            fetched = fetch_tables(address, described, sha256, store, folder)
            tables = fetched.tables
            stored = fetched.stored
            held = fetched.held
            rows = fetched.rows
            remote = FollowedShards(address, store, folder, tables.shards, True, fetched.parts)
        else:
            remote = FollowedShards(address, store, folder, check_shards(described, where))
            tables, stored, held = _fetch_samples(address, described, sha256, store, folder)
        index = DatasetIndex.from_description(address, described, tables, remote, rows)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise FormatError(f"{where}: no valid {error} entry; {AGAIN}") from None
    remote.reopening = (cache_dir, cache_gb, sha256)
    remote.stored = stored
    remote.held = held
    return index


def _fetch_samples(
    address: Address,
    described: dict[str, Any],
    index_sha256: str,
    store: ObjectStore,
    folder: CacheFolder,
) -> tuple[np.ndarray, dict[str, Path], list[BinaryIO]]:
    """Bring samples.npy of version 1, and map it; it stays in the cache while the file is open."""
    shape = (
        described["num_samples"],
        len(described["class_names"]),
        len(described["image"]["members"]),
    )
    key_bytes = FOREIGN_KEY_BYTES if described.get("in_place") else OWN_KEY_BYTES
    limit = shape[0] * row_dtype(shape[1], shape[2], key_bytes).itemsize + NPY_HEADER_BYTES
    name = hashlib.sha256(f"{SAMPLES_NAME} of {index_sha256}".encode()).hexdigest()
    table = ReadTwice(address / SAMPLES_NAME, name, limit, store, folder)
    held = table.hold()
    samples = map_samples(table.path, *shape, table.where)
    return samples, {SAMPLES_NAME: table.path}, [held]


def open_remote_split(
    data: Address, split: str, cache_dir: str = "", cache_gb: float = 0.0
) -> DatasetIndex:
    """Open `data/split`, with an error that names the splits there are."""
    Address.parse(str(data / split))
    try:
        return open_remote(data / split, cache_dir, cache_gb)
    except MissingError as error:
        if not str(error).startswith(str(data / split / INDEX_NAME)):
            raise
        there = there_of(data, (*SPLITS, ""))
        if "" in there:
            raise FormatError(
                f"{data}: is one split; give the address of the whole dataset, {data.parent}"
            ) from None
        has = f"it has {', '.join(there)}" if there else "check the address"
        raise FormatError(f"{data}: no split {split!r} here; {has}") from None


def there_of(data: Address, splits: tuple[str, ...]) -> list[str]:
    """Name those of some splits whose index.json is there; "" is the address itself."""
    found = []
    for split in splits:
        store = open_store(data / split if split else data)
        try:
            with store.get(INDEX_NAME, 0, None) as reply:
                next(reply.chunks, None)
            found.append(split)
        except (patience.TransferError, UnreachableError, ObjectChangedError):
            continue
    return found


def check_shards(described: dict[str, Any], where: Address) -> list[Shard]:
    """Check what an index lists before anything is fetched or written for it."""
    shards = []
    names = set()
    total = 0
    for entry in described["shards"]:
        name = entry["name"]
        sha256 = entry["sha256"]
        if not isinstance(name, str) or not _is_plain(name):
            raise FormatError(f"{where}: shard name {name!r:.100} leads out of the folder; {AGAIN}")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise FormatError(f"{where}: the checksum of {name} is no SHA-256; {AGAIN}")
        num_bytes = _count(entry["bytes"], MAX_SHARD_BYTES, where, f"bytes of {name}")
        # a sample has a header of 512 bytes at least
        most = num_bytes // 512
        num_samples = _count(entry["num_samples"], most, where, f"num_samples of {name}")
        total += num_samples
        names.add(name)
        shards.append(Shard(name, num_bytes, num_samples, sha256))
    if len(names) < len(shards):
        raise FormatError(f"{where}: lists a shard twice; {AGAIN}")
    if type(described["num_samples"]) is not int or total != described["num_samples"]:
        raise FormatError(f"{where}: num_samples is not the sum of its shards' samples; {AGAIN}")
    if not holds_together(described):
        raise FormatError(f"{where}: its checksum is wrong: it is not what was packed; {AGAIN}")
    return shards


def _is_plain(name: str) -> bool:
    return (
        name.isprintable()
        and 0 < len(name) <= 255
        and not set(name) & set("/\\?#%:*")
        and name not in (".", "..", DAMAGED_NAME)
    )


def _count(value: object, most: int, where: Address, what: str) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise FormatError(f"{where}: {what} is {value!r:.40}; {AGAIN}")
    return value


def _index_bytes(address: Address, store: ObjectStore, folder: CacheFolder, sha256: str) -> bytes:
    """Fetch index.json; one that is known already may come from the cache."""
    if sha256 and (file := folder.open_object(sha256)):
        with file:
            return file.read()
    data = fetch_small(store, address / INDEX_NAME, MAX_INDEX_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise DataError(
            f"{address / INDEX_NAME}: was replaced since this run opened it; start the run again"
        )
    keep_small(folder, found, data)
    return data


def fetch_small(store: ObjectStore, where: Address, limit: int) -> bytes:
    """Fetch an object into memory. Raises FormatError where it is longer than `limit`."""
    for is_last in (False, True):
        file = io.BytesIO()
        try:
            Transfer(store, where, file, None, limit).run()
            return file.getvalue()
        except ObjectChangedError:
            if is_last:
                raise FormatError(
                    f"{where}: has more than {limit:,} bytes, or none that can be read; {AGAIN}"
                ) from None
    raise AssertionError


def keep_small(folder: CacheFolder, sha256: str, data: bytes) -> None:
    """Keep an object for processes that open the split again; without room they fetch it again."""
    try:
        part = folder.begin(sha256, len(data), lambda _: None, 0.0)
    except DataError:
        return
    if isinstance(part, Part):
        try:
            part.file.seek(0)
            part.file.truncate()
            part.file.write(data)
            part.finish()
        except OSError:
            part.drop()
        finally:
            part.close()
