"""rows.npy of a split by address, fetched part by part: the rows of a shard when it is first needed.

The cache has it as one file of its whole length, with holes where nothing was fetched. Nothing says
which parts are here but their CRC-32: each process compares a part's at its first use, so a part
that a kill or a power cut left half written is fetched again. Parts are compared in memory before
they are written: no process ever sees another byte in a part that it has found right.
"""

import io
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.errors import DataError, FormatError, remedy
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder
from shards.remote.cached_tables import length_differs, no_room_for, not_as_packed
from shards.remote.part_file import LOOK_S, PartFile
from shards.remote.patience import ObjectChangedError, ObjectStore
from shards.remote.spans import Span, SpansTransfer, WholeAnswerError

RUN_BYTES = 8 << 20  # of a request for neighbouring parts
CONNECTIONS = 16  # at once, of a process
MEMORY_BYTES = 256 << 20  # of parts that are on their way
RETRY_S = 30.0  # what could not be fetched ahead is tried again after so long


class RowParts:
    """The parts of one table in the cache. Threads may share it.

    Invariant: of a part that `here` names, this process has compared the CRC-32 of what is in the
    file, or has written it. `starts` int64 [S + 1] are where the parts begin, in bytes, and where
    the last one ends; what comes before the first is the header.
    """

    def __init__(
        self,
        where: Address,
        name: str,
        starts: np.ndarray,
        crcs: np.ndarray,
        store: ObjectStore,
        folder: CacheFolder,
    ) -> None:
        self.where = where
        self.path: Path = folder.path / name
        self.here = np.diff(starts) == 0
        self.note: Callable[[int], None] = lambda _: None  # gets the bytes of what arrives
        self._name = name
        self._starts = starts
        self._crcs = crcs
        self._store = store
        self._folder = folder
        self._num_bytes = int(starts[-1])
        self._num_connections = _num_connections(starts)
        self._has_ranges = True  # until the server answers with the whole, twice in a row
        self._failed_at = -RETRY_S
        self._process = 0
        self._begin()

    def hold(self, is_header: Callable[[bytes], bool]) -> BinaryIO:
        """Open the file, which stays in the cache while it is open; what is not here of the header
        is fetched. Raises DataError where that is no such table.
        """
        head_bytes = int(self._starts[0])
        file = self._folder.open_holes(self._name, self._num_bytes)
        if file is not None:
            is_long = os.fstat(file.fileno()).st_size == self._num_bytes
            if not (is_long and is_header(os.pread(file.fileno(), head_bytes, 0))):
                file.close()
                file = None
        if file is None:
            head = self._header(head_bytes, is_header)
            file = self._folder.open_holes(self._name, self._num_bytes, head)
            assert file is not None
        self._file = PartFile(file)
        return file

    def num_bytes(self, numbers: np.ndarray) -> int:
        """Count the bytes of some parts."""
        return int((self._starts[numbers + 1] - self._starts[numbers]).sum())

    def bring(self, numbers: np.ndarray) -> None:
        """Fetch those of some parts that are not here. Raises DataError with the object's address,
        at once where the cache can never hold them.
        """
        if self.here[numbers].all():
            return
        missing = np.unique(numbers[~self.here[numbers]])
        if (num_bytes := self.num_bytes(missing)) > self._folder.room(to_the_last=True):
            raise DataError(no_room_for(self.where, num_bytes, self._folder))
        while len(missing):
            mine = self._claim(missing.tolist())
            if mine:
                try:
                    self._fetch_all(mine)
                finally:
                    self._release(mine)
            else:
                with self._changed:
                    self._changed.wait(LOOK_S)
            missing = missing[~self.here[missing]]

    def ahead(self, numbers: np.ndarray) -> bool:
        """Fetch the first of some parts that is neither here nor on its way, and those of them that
        come behind it in the table; False if there is none. What fails is left to who needs it.
        """
        if time.monotonic() - self._failed_at < RETRY_S:
            return False
        mine = self._claim_ahead(numbers)
        try:
            self._fetch_all(mine)
            return bool(mine)
        except DataError:
            self._failed_at = time.monotonic()
            return False
        finally:
            self._release(mine)

    def _begin(self) -> None:
        """Begin in each process: threads, and what they hold, do not survive a fork."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._changed = threading.Condition()
            self._whole_turn = threading.Lock()
            self._fetching: set[int] = set()  # what threads here are at
            self._connections = threading.BoundedSemaphore(self._num_connections)

    def _claim(self, numbers: list[int]) -> list[int]:
        """Take those parts that no thread here is fetching."""
        self._begin()
        with self._changed:
            mine = [number for number in numbers if number not in self._fetching]
            self._fetching.update(mine)
        return mine

    def _claim_ahead(self, numbers: np.ndarray) -> list[int]:
        self._begin()
        with self._changed:
            missing = numbers[~self.here[numbers]].tolist()
            free = [number for number in missing if number not in self._fetching]
            run = free[:1]
            while run and run[-1] + 1 in free and self._length(run[0], run[-1] + 1) <= RUN_BYTES:
                run.append(run[-1] + 1)
            self._fetching.update(run)
        return run

    def _release(self, mine: list[int]) -> None:
        with self._changed:
            self._fetching.difference_update(mine)
            self._changed.notify_all()

    def _runs(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Cut parts, in order, into runs of neighbours that share a request."""
        run: list[int] = []
        for number in numbers:
            is_apart = run and self._starts[run[-1] + 1] < self._starts[number]
            if is_apart or (run and self._length(run[0], number) > RUN_BYTES):
                yield run
                run = []
            run.append(number)
        if run:
            yield run

    def _fetch_all(self, numbers: list[int]) -> None:
        """Fetch what is not in the file, over several connections."""
        left = deque(self._runs(numbers))
        failed: list[Exception] = []

        def work() -> None:
            while left and not failed:
                with suppress(IndexError):  # another thread took the last
                    run = left.popleft()
                    try:
                        with self._connections:
                            self._fetch(run)
                    except Exception as error:
                        failed.append(error)

        self._file.after_fork()
        # of no pool: its threads would keep a process that ends waiting for a silent server
        threads = [
            threading.Thread(target=work, name="tarmac-rows", daemon=True)
            for _ in range(min(self._num_connections, len(left)) - 1)
        ]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def _missing(self, numbers: Sequence[int]) -> list[int]:
        """Name the parts that are not in the file, as their CRC-32 says."""
        missing = []
        for number in numbers:
            if not self.here[number]:
                self.here[number] = self._file.crc(*self._bounds(number)) == self._crcs[number]
            if not self.here[number]:
                missing.append(number)
        return missing

    def _fetch(self, run: list[int]) -> None:
        """Fetch neighbours that are not in the file."""
        run = self._missing(run)
        if not run:
            return
        if not self._file.is_writable:
            raise DataError(
                f"{self._folder.path}: cannot be written, and has not all of {self.where}; choose "
                f"another --cache-dir"
            )
        try:
            with self._file.locked(*self._bounds(run[0], run[-1])):
                self._fetch_run(self._missing(run))  # another process may have been first
        except WholeAnswerError:
            self._has_ranges = False
            self._fetch_whole(run)
        except OSError as error:
            raise DataError(
                f"{self._folder.path}: cannot keep {self.where} ({error.strerror}); "
                f"{remedy(error)}, free some space or choose another --cache-dir"
            ) from None

    def _fetch_run(self, run: list[int]) -> None:
        """Fetch parts by ranges, those that are wrong once more."""
        if run and not self._has_ranges:
            raise WholeAnswerError
        self._make_room(run)
        for is_last in (False, True):
            missing = [number for number in run if not self.here[number]]
            try:
                for some in self._runs(missing):
                    self._read(some)
            except ObjectChangedError:
                if is_last:
                    raise FormatError(length_differs(self.where)) from None
        self._check(run)

    def _read(self, run: list[int]) -> None:
        transfer = self._transfer(run)
        try:
            transfer.run()
        except WholeAnswerError:  # once may be chance
            transfer.run()

    def _fetch_whole(self, wanted: list[int]) -> None:
        """Fetch the whole table in one request: from a server that answers ranges so."""
        with self._whole_turn, self._file.locked(0, self._num_bytes):
            for _ in range(2):
                missing = self._missing(range(len(self.here)))
                if self.here[wanted].all():
                    return
                self._make_room(missing)
                try:
                    self._transfer(missing, takes_whole=True).run()
                except ObjectChangedError:
                    raise FormatError(length_differs(self.where)) from None
            self._check(wanted)

    def _transfer(self, numbers: list[int], takes_whole: bool = False) -> SpansTransfer:
        spans = {self._bounds(number): number for number in numbers}

        def accept(span: Span, data: bytearray) -> None:
            number = spans[span]
            if zlib.crc32(data) == self._crcs[number]:
                self._file.write(data, span[0])
                self.here[number] = True

        return SpansTransfer(
            self._store, self.where, self._num_bytes, list(spans), accept, self.note, takes_whole
        )

    def _make_room(self, numbers: list[int]) -> None:
        if num_bytes := self.num_bytes(np.array(numbers, np.int64)):
            self._folder.make_room(self._name, num_bytes)

    def _check(self, numbers: list[int]) -> None:
        if not self.here[numbers].all():
            raise DataError(not_as_packed(self.where))

    def _bounds(self, first: int, last: int | None = None) -> Span:
        return int(self._starts[first]), int(self._starts[(first if last is None else last) + 1])

    def _length(self, first: int, last: int) -> int:
        start, stop = self._bounds(first, last)
        return stop - start

    def _header(self, num_bytes: int, is_header: Callable[[bytes], bool]) -> bytes:
        """Fetch the header, once more if it is another."""
        found: list[bytes] = []

        def accept(_: Span, data: bytearray) -> None:
            found.append(bytes(data))

        for is_last in (False, True):
            spans = [(0, num_bytes)]
            try:
                SpansTransfer(self._store, self.where, self._num_bytes, spans, accept).run()
                if is_header(found[-1]):
                    return found[-1]
            except ObjectChangedError:
                if is_last:
                    raise FormatError(length_differs(self.where)) from None
        raise DataError(not_as_packed(self.where))


def header_check(dtype: np.dtype[Any], num_rows: int) -> Callable[[bytes], bool]:
    """Make what tells whether some bytes are the header of a file of so many rows."""

    def is_header(data: bytes) -> bool:
        file = io.BytesIO(data)
        try:
            np.lib.format.read_magic(file)
            shape, is_fortran, found = np.lib.format.read_array_header_1_0(file)
        except Exception:  # on hostile headers numpy's parser raises almost anything
            return False
        is_all = file.tell() == len(data)
        return is_all and not is_fortran and shape == (num_rows,) and found == dtype

    return is_header


def _num_connections(starts: np.ndarray) -> int:
    longest = int(np.diff(starts).max(initial=1))
    return max(1, min(CONNECTIONS, MEMORY_BYTES // max(longest, RUN_BYTES)))
