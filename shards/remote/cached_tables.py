"""The tables of a split by address: fetched, checked, and kept in the cache while they are mapped."""

import errno
import threading
import time
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.disk.format import INDEX_NAME, KEYS_NAME
from shards.disk.tables import mapped_keys
from shards.errors import DataError, FormatError, remedy
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder, Part
from shards.remote.growth import LOOK_S, Growth
from shards.remote.patience import ObjectChangedError, ObjectStore
from shards.remote.transfer import Transfer

AGAIN = "upload the set again as it was packed"
NPY_HEADER_BYTES = 1 << 16
MAX_SHARD_BYTES = 1 << 42


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
        others = Growth(self._folder, self._name, self._limit)
        while (file := self._folder.open_object(self._name)) is None:
            if not self._fetch():
                others.check()
                time.sleep(LOOK_S)
        return file

    def transfer(self, part: Part, num_bytes: int | None) -> Transfer:
        """Prepare to fetch it from its start."""
        transfer = Transfer(self._store, self.where, part.file, num_bytes, self._limit)
        transfer.start_again()
        return transfer

    def _fetch(self) -> bool:
        """Fetch it; False where another process does."""
        if self._limit > self._folder.room():
            raise DataError(no_room_for(self.where, self._limit, self._folder))
        part = self._folder.begin(self._name, self._limit, lambda _: None, 0.0)
        if part == "full":
            raise DataError(
                f"{self._folder.path}: has no room for {self.where}: all in it is being read; "
                f"give a greater --cache-gb"
            )
        if not isinstance(part, Part):
            return False
        try:
            if self.bring(part):
                part.finish()
                return True
            part.drop()
            raise DataError(not_as_packed(self.where))
        except ObjectChangedError:
            part.drop()
            raise FormatError(length_differs(self.where)) from None
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


def not_as_packed(where: Address) -> str:
    """Say that a table is another."""
    return (
        f"{where}: its bytes are not those that were packed, or others each time it is read; check "
        f"the server and the network, or {AGAIN}"
    )


def length_differs(where: Address) -> str:
    """Say that a table has another length."""
    return f"{where}: is longer than the rows that {INDEX_NAME} lists, or shorter; {AGAIN}"


def no_room_for(where: Address, num_bytes: int, folder: CacheFolder) -> str:
    """Say that the cache cannot hold a table."""
    greater = "give a greater --cache-gb or a larger disk"
    return (
        f"{where}: {num_bytes / 1e9:.3g} GB of it may come, as {INDEX_NAME} says, and the cache "
        f"{folder.path} has room for {folder.room() / 1e9:.3g} GB; "
        f"{greater if folder.gigabytes else 'free some of its disk or choose another --cache-dir'}"
    )
