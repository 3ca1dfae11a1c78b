"""Bytes of a sample: one slice of a memory-mapped tar."""

import mmap
from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np

from shards.errors import FormatError
from shards.index import DatasetIndex

MAX_OPEN_SHARDS = 512  # each costs a file descriptor; 1,024 is the usual limit of a process
# After so many bytes handed out the mapped pages are let go: they stay in the page cache, but no longer count as this
# process's memory, which would otherwise grow to the size of the dataset. Costs under 1% to map them again.
MAPPED_BYTES = 32_000_000


class ShardReader:
    """Map shards when first asked for and hand out views of their bytes. Threads may share one; a pickled copy
    (for worker processes) opens its own maps."""

    def __init__(self, index: DatasetIndex) -> None:
        self.index = index
        self._maps: OrderedDict[int, tuple[np.ndarray, mmap.mmap]] = OrderedDict()
        self._handed_out = 0
        self._lock = Lock()

    def member(self, row: np.void, member: int) -> np.ndarray:
        """View the bytes of image member number `member` of a row of samples.npy: uint8 [length], read-only."""
        number, start, length = int(row["shard"]), int(row["offset"][member]), int(row["length"][member])
        shard = self._map(number, length)
        if start + length > len(shard):
            raise FormatError(
                f"{self.index.shard_path(number)}: {row['key'].decode()} lies beyond its end; "
                "run the same preprocess.shard command again to restore it"
            )
        return shard[start : start + length]

    def _map(self, number: int, length: int) -> np.ndarray:
        with self._lock:
            self._handed_out += length
            if self._handed_out > MAPPED_BYTES:
                self._let_go()
            mapped = self._maps.get(number)
            if mapped is not None:
                self._maps.move_to_end(number)
                return mapped[0]
            if number >= len(self.index.shards):
                raise FormatError(f"{self.index.root}: samples.npy names shard {number}, which is not there")
            with open(self.index.shard_path(number), "rb") as file:
                whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[number] = np.frombuffer(whole, np.uint8), whole
            if len(self._maps) > MAX_OPEN_SHARDS:
                self._maps.popitem(last=False)  # unmapped when the last view of it goes
            return self._maps[number][0]

    def _let_go(self) -> None:
        self._handed_out = 0
        if hasattr(mmap, "MADV_DONTNEED"):  # views stay good: their pages are mapped again when touched
            for _, whole in self._maps.values():
                whole.madvise(mmap.MADV_DONTNEED)

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["index"])  # type: ignore[misc]
