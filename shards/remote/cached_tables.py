"""The tables of a split by address: fetched, checked, and kept in the cache while they are mapped."""

import errno
import hashlib
import re
import threading
import time
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

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
from shards.disk.tables import MAX_KEY_BYTES, Tables, mapped_keys, mapped_table, open_tables
from shards.errors import DataError, FormatError, remedy
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder, Part
from shards.remote.patience import ObjectChangedError, ObjectStore
from shards.remote.transfer import Transfer

AGAIN = "upload the set again as it was packed"
NPY_HEADER_BYTES = 1 << 16
MAX_ROWS = 1 << 40
MAX_SHARD_BYTES = 1 << 42
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CachedTable(ABC):
    """A table in the cache, under the hash `name`; `limit` is how long it may be."""

    def __init__(
        self, where: Address, name: str, limit: int, store: ObjectStore, folder: CacheFolder
    ) -> None:
        self.where = where
        self.path = folder.path / name
        self._name = name
        self._limit = limit
        self._store = store
        self._folder = folder

    @abstractmethod
    def bring(self, part: Part) -> bool:
        """Fetch it; False where its bytes are not what they should be."""

    def hold(self) -> BinaryIO:
        """Bring it into the cache, where it stays while the file is open."""
        while (file := self._folder.open_object(self._name)) is None:
            self._fetch()
        return file

    def transfer(self, part: Part, num_bytes: int | None) -> Transfer:
        """Prepare to fetch it from its start."""
        transfer = Transfer(self._store, self.where, part.file, num_bytes, self._limit)
        transfer.start_again()
        return transfer

    def _fetch(self) -> None:
        if self._limit > self._folder.room():
            raise DataError(
                f"{self.where}: may be {self._limit / 1e9:.3g} GB, as {INDEX_NAME} says, and the "
                f"cache {self._folder.path} has room for {self._folder.room() / 1e9:.3g} GB; give "
                f"a greater --cache-gb or a larger disk"
            )
        part = self._folder.begin(self._name, self._limit, lambda _: None, 0.0)
        if part == "full":
            raise DataError(
                f"{self._folder.path}: has no room for {self.where}: all in it is being read; "
                f"give a greater --cache-gb"
            )
        if not isinstance(part, Part):
            time.sleep(0.05)  # another process fetches it
            return
        try:
            if self.bring(part):
                part.finish()
                return
            part.drop()
            raise DataError(
                f"{self.where}: its bytes are not those that were packed, or others each time it "
                f"is read; check the server and the network, or {AGAIN}"
            )
        except ObjectChangedError:
            part.drop()
            raise FormatError(
                f"{self.where}: is longer than the rows that {INDEX_NAME} lists, or shorter; {AGAIN}"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                part.drop()
            raise DataError(
                f"{self._folder.path}: cannot keep {self.where} ({error.strerror}); "
                f"{remedy(error)}, or free some space"
            ) from None
        finally:
            part.close()


class ReadTwice(CachedTable):
    """A table whose checksum nothing has: two readings must be the same."""

    def bring(self, part: Part) -> bool:
        """Read it up to four times, until two readings agree."""
        seen: list[str] = []
        for _ in range(4):
            seen.append(self.transfer(part, None).run())
            if seen.count(seen[-1]) == 2:
                return True
        return False


class HashedTable(CachedTable):
    """A table whose SHA-256 is its name."""

    def bring(self, part: Part) -> bool:
        """Read it, once more where it is another."""
        return any(self.transfer(part, self._limit).run() == self._name for _ in range(2))


class SummedTable(CachedTable):
    """A table with a CRC of each shard's part of it."""

    def __init__(self, part_bytes: np.ndarray, crcs: np.ndarray, *of_table: Any) -> None:
        super().__init__(*of_table)
        self._part_bytes = part_bytes.tolist()
        self._crcs = crcs.tolist()

    def bring(self, part: Part) -> bool:
        """Read it, once more where a part is another."""
        for _ in range(2):
            self.transfer(part, self._limit).run()
            if self._holds(part.file):
                return True
        return False

    def _holds(self, file: BinaryIO) -> bool:
        file.seek(0)
        try:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
        except Exception:  # on hostile headers numpy's parser raises almost anything
            return False
        return all(
            zlib.crc32(file.read(num)) == crc
            for num, crc in zip(self._part_bytes, self._crcs, strict=True)
        )


class LateKeys:
    """The keys of a split, fetched when they are first asked for: reading batches takes none.

    Threads may share one. `held` and `stored` then get the file.
    """

    def __init__(
        self,
        described: dict[str, Any],
        table: SummedTable,
        held: list[BinaryIO],
        stored: dict[str, Path],
    ) -> None:
        self._described = described
        self._table = table
        self._held = held
        self._stored = stored
        self._keys: np.ndarray | None = None
        self._lock = threading.Lock()

    def __call__(self) -> np.ndarray:
        with self._lock:
            if self._keys is None:
                self._held.append(self._table.hold())
                self._stored[KEYS_NAME] = self._table.path
                self._keys = mapped_keys(self._table.where.parent, self._described, self._stored)
            return self._keys


def fetch_tables(
    address: Address,
    described: dict[str, Any],
    index_sha256: str,
    store: ObjectStore,
    folder: CacheFolder,
) -> tuple[Tables, dict[str, Path], list[BinaryIO]]:
    """Bring the tables of version 2, and map them; they stay in the cache while the files are open.
    That of the keys comes when it is asked for.

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
        own = hashlib.sha256(f"{name} of {index_sha256}".encode()).hexdigest()
        part_bytes = table["num_samples"].astype(np.int64) * _row_bytes(described, name)
        of_table = (address / name, own, tables[name]["bytes"], store, folder)
        summed[name] = SummedTable(part_bytes, table[crcs], *of_table)
    held.append(summed[ROWS_NAME].hold())
    stored[ROWS_NAME] = summed[ROWS_NAME].path
    keys = LateKeys(described, summed[KEYS_NAME], held, stored)
    return open_tables(address, described, stored, keys), stored, held


def _row_bytes(described: dict[str, Any], name: str) -> int:
    if name == SHARDS_NAME:
        return SHARD_DTYPE.itemsize
    if name == KEYS_NAME:
        return int(described["key_bytes"])
    num_members = len(described["image"]["members"])
    return lean_row_dtype(len(described["class_names"]), num_members).itemsize


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
