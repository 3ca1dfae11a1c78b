"""Bytes of a sample: one slice of a memory-mapped tar."""

import mmap
import os
from collections import OrderedDict
from collections.abc import Collection
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from shards.disk.format import BLOCK
from shards.errors import DataError, SampleError, count_of, remedy
from shards.host.machine import open_files
from shards.index import DatasetIndex

# An open shard costs a file descriptor and one of a process's 65,530 maps (Linux); several readers
# share them.
MIN_OPEN_SHARDS = 512
MAX_OPEN_SHARDS = 16_384
# After so many bytes handed out the mapped pages are let go: they stay in the page cache, but no
# longer count as this process's memory, which would otherwise grow to the size of the dataset.
# Costs under 1% to map them again.
MAPPED_BYTES = 32_000_000


class ShardReader:
    """Map shards when first asked for and hand out views of their bytes. Threads may share one; a
    pickled copy (for worker processes) opens its own maps.

    The lock is held to look a map up, never while a shard is opened: on a network disk that takes
    milliseconds.
    """

    def __init__(self, index: DatasetIndex) -> None:
        self.index = index
        self._maps: OrderedDict[int, tuple[np.ndarray, mmap.mmap]] = OrderedDict()
        self._first_rows = np.concatenate([[0], np.cumsum(index.shard_sizes)])
        self._max_open = max(MIN_OPEN_SHARDS, open_files(4 * MAX_OPEN_SHARDS) // 4)
        if index.remote is not None:  # a map keeps its shard in the cache
            self._max_open = min(self._max_open, index.remote.num_at_once())
            index.remote.add_reader(self)
        self._handed_out = 0
        # Shards asked for since pages were let go, and in the round before: a slow thread may touch
        # its view after.
        self._touched: set[int] = set()
        self._touched_before: set[int] = set()
        self._lock = Lock()

    def member(self, row: np.void, member: int) -> np.ndarray:
        """View the bytes of image member number `member` of a row of the index: uint8 [length],
        read-only.

        Raises SampleError without shard or key, which the caller knows; DataError where the shard
        may be well, but the system does not let it be read.
        """
        number = int(row["shard"])
        start = int(row["offset"][member])
        length = int(row["length"][member])
        try:
            shard, whole = self._map(number, length)
            # The file may have been cut short since it was mapped, and touching a page that is gone
            # would end the process (SIGBUS). Asking for its size costs 0.5 us, without the GIL.
            num_bytes = whole.size()
        except FileNotFoundError as error:
            raise SampleError(f"the shard cannot be opened ({error.strerror})") from error
        except OSError as error:  # such as too many open files: no sample is to blame, and none may be skipped for it
            path = self.index.shard_path(number)
            raise DataError(
                f"{path}: the shard cannot be read ({error.strerror}); {remedy(error)}"
            ) from error
        if start + length > num_bytes:
            raise SampleError(
                f"bytes {start} to {start + length} are beyond the {count_of(num_bytes, 'byte')} "
                "of the shard"
            )
        return shard[start : start + length]

    def keep_only(self, needed: Collection[int]) -> None:
        """Close the maps of all other shards; a view of one keeps it until the view goes."""
        with self._lock:
            for number in [number for number in self._maps if number not in needed]:
                del self._maps[number]

    def _map(self, number: int, length: int) -> tuple[np.ndarray, mmap.mmap]:
        with self._lock:
            self._handed_out += length
            if self._handed_out > MAPPED_BYTES:
                self._let_go()
            mapped = self._maps.get(number)
            if mapped is not None:
                self._maps.move_to_end(number)
                self._touched.add(number)
                return mapped
        opened = self._open(number)
        with self._lock:
            # another thread may have been first: ours is closed then
            mapped = self._maps.setdefault(number, opened)
            self._touched.add(number)
            if len(self._maps) > self._max_open:
                self._maps.popitem(last=False)  # unmapped when the last view of it goes
            return mapped

    def _open(self, number: int) -> tuple[np.ndarray, mmap.mmap]:
        if number >= len(self.index.shards):
            name = self.index.rows_name
            raise SampleError(f"{name} names shard {number} of {len(self.index.shards)}")
        with self.index.open_shard(number) as file:
            self._check(file, number)
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(whole, np.uint8), whole

    def _check(self, file: BinaryIO, number: int) -> None:
        """See that a shard is the one that the rows were made of: the tar names its first and
        last sample.
        """
        size = os.fstat(file.fileno()).st_size
        if size != self.index.shards[number].num_bytes:
            raise SampleError(
                f"the shard has {count_of(size, 'byte')}, the index says "
                f"{self.index.shards[number].num_bytes:,}"
            )
        # of another writer, who names members otherwise; or fetched, and its SHA-256 compared
        if self.index.in_place or callable(self.index.stored_keys):
            return
        first = int(self._first_rows[number])
        last = int(self._first_rows[number + 1]) - 1
        for sample in (first, last) if first <= last else ():
            row = self.index.samples[sample]
            start = int(row["offset"][0])
            length = int(row["length"][0])
            name = bytes(self.index.key_bytes[sample]) + b"." + self.index.members[0].encode()
            file.seek(min(max(0, start - BLOCK), size))
            header = file.read(BLOCK)
            if header[:100].rstrip(b"\0") != name[:100] or header[124:135] != b"%011o" % length:
                raise SampleError(
                    f"the shard has no {name.decode('ascii', 'backslashreplace')} of {length} "
                    f"bytes at {start}: it is not the one that the index was made of"
                )

    def _let_go(self) -> None:
        self._handed_out = 0
        # views stay good: their pages are mapped again when touched
        if hasattr(mmap, "MADV_DONTNEED"):
            for number in self._maps.keys() & (self._touched | self._touched_before):
                self._maps[number][1].madvise(mmap.MADV_DONTNEED)
        self._touched_before = self._touched
        self._touched = set()

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["index"])  # type: ignore[misc]
