"""The images of a run's first batches, read by ranges of shards that are still to come.

What a range brings is checked by the CRC-32 of each image that its row has (format 2). Nothing that
goes wrong here is an error: the image is then read from its whole shard, which is tried again as
usual, checked by its SHA-256, and named where it cannot be had.
"""

import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from shards.disk.tables import Shard
from shards.errors import DataError
from shards.remote import patience
from shards.remote.cache_folder import CacheFolder
from shards.remote.patience import ObjectChangedError, ObjectStore, TransferError

CONNECTIONS = 16  # at once: a request waits for its answer longer than it takes to send
GAP_BYTES = 1 << 16  # between images of one request: sending them costs less than another one
RANGE_BYTES = 8 << 20  # of a request for several images
IMAGE_BYTES = 32 << 20  # a longer image waits for its shard, which is a file: these are in memory
BATCH_BYTES = 256 << 20  # the same of all images of a batch
TRIES = 2  # of a range, before the shard is waited for

Place = tuple[int, int]  # shard and offset of an image
EarlyImages = dict[Place, np.ndarray]  # uint8 [length] each
Note = Callable[[int], None]


class Range(NamedTuple):
    """A part of a shard, and the images in it: offset, length and CRC-32 of each."""

    shard: int
    start: int
    stop: int
    images: tuple[tuple[int, int, int], ...]

    @property
    def num_bytes(self) -> int:
        return self.stop - self.start

    def is_near(self, shard: int, start: int, stop: int) -> bool:
        """Tell whether an image further on is best read with this range."""
        return (
            shard == self.shard
            and start - self.stop <= GAP_BYTES
            and stop - self.start <= RANGE_BYTES
        )


class _NoRangesError(Exception):
    """The server answers with the whole object."""


def join_ranges(rows: np.ndarray, num_members: int, shards: Sequence[Shard]) -> list[Range]:
    """List the ranges that hold the images of some rows, those that are close to each other in one.

    Rows of a shard that does not exist, or of bytes beyond it, have none.
    """
    ranges: list[Range] = []
    for number, start, length, crc in sorted(_images_of(rows, num_members)):
        stop = start + length
        if number >= len(shards) or stop > shards[number].num_bytes:
            continue
        if not 0 < length <= IMAGE_BYTES:
            continue
        image = (start, length, crc)
        last = ranges[-1] if ranges else None
        if last is None or not last.is_near(number, start, stop):
            ranges.append(Range(number, start, stop, (image,)))
        else:
            end = max(last.stop, stop)
            ranges[-1] = last._replace(stop=end, images=(*last.images, image))
    return ranges


def _images_of(rows: np.ndarray, num_members: int) -> set[tuple[int, int, int, int]]:
    """Name the images of some rows: shard, offset, length and CRC-32."""
    columns = [
        np.repeat(rows["shard"], num_members).tolist(),
        *(rows[name][:, :num_members].ravel().tolist() for name in ("offset", "length", "crc")),
    ]
    return set(zip(*columns, strict=True))


def worth_reading(ranges: Sequence[Range], shards: Sequence[Shard]) -> tuple[list[Range], set[int]]:
    """Leave out ranges of shards of which more than half would be read, and name these shards: they
    are fetched whole, once. Leave out what would be too much memory, too.
    """
    num_bytes: Counter[int] = Counter()
    for each in ranges:
        num_bytes[each.shard] += each.num_bytes
    whole = {number for number, num in num_bytes.items() if 2 * num > shards[number].num_bytes}
    kept = []
    room = BATCH_BYTES
    for each in ranges:
        if each.shard not in whole and each.num_bytes <= room:
            room -= each.num_bytes
            kept.append(each)
    return kept, whole


class RangeReader:
    """Reads ranges of a split's shards into memory. Threads may share one."""

    def __init__(self, store: ObjectStore, folder: CacheFolder, shards: Sequence[Shard]) -> None:
        self._store = store
        self._folder = folder
        self._shards = shards
        self._has_ranges = True  # until the server answers a range with the whole

    def wanted(self, rows: np.ndarray, num_members: int) -> list[Range]:
        """List the ranges of images whose shards are not in the cache."""
        if not self._has_ranges:
            return []
        numbers = np.unique(rows["shard"]).tolist()
        missing = [
            number
            for number in numbers
            if number < len(self._shards) and not self._folder.has(self._shards[number].sha256)
        ]
        return join_ranges(rows[np.isin(rows["shard"], missing)], num_members, self._shards)

    def read(self, ranges: Sequence[Range], note: Note) -> EarlyImages:
        """Read the images in some ranges, over several connections; those that cannot be had, or
        are not what their rows say, are left out. `note` is called with the bytes of each piece
        that arrives.
        """
        left = deque(ranges)
        images: EarlyImages = {}

        def work() -> None:
            while True:
                try:
                    one = left.popleft()
                except IndexError:
                    return
                images.update(self._images(one, note))

        # of no pool: its threads would keep a process that ends waiting for a silent server
        threads = [
            threading.Thread(target=work, name="tarmac-early", daemon=True)
            for _ in range(min(CONNECTIONS, len(ranges)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return images

    def _images(self, one: Range, note: Note) -> EarlyImages:
        limits = patience.PATIENCE
        shard = self._shards[one.shard]
        images: EarlyImages = {}
        for failures in range(1, TRIES + 1):
            if not self._has_ranges or self._folder.has(shard.sha256):
                break
            try:
                images.update(_checked(one, self._bytes(one, shard, note)))
                if len(images) == len(one.images):
                    break
            except TransferError as error:
                if failures < TRIES:
                    time.sleep(limits.pause(failures, error.retry_after_s))
            except _NoRangesError:
                self._has_ranges = False
            except (ObjectChangedError, DataError):
                break  # its shard says what the matter is
        return images

    def _bytes(self, one: Range, shard: Shard, note: Note) -> bytes:
        """Read a range; what a server sends beyond it is cut off."""
        data = bytearray()
        with self._store.get(shard.name, one.start, shard.num_bytes, one.stop) as reply:
            if reply.start != one.start:
                raise _NoRangesError
            if reply.num_bytes not in (None, shard.num_bytes):
                raise ObjectChangedError
            for chunk in reply.chunks:
                note(len(chunk))
                data += chunk
                if len(data) >= one.num_bytes:
                    return bytes(data[: one.num_bytes])
        raise TransferError("the connection ended in the middle")


def _checked(one: Range, data: bytes) -> EarlyImages:
    """Cut a range into its images; leave out those whose CRC-32 is wrong."""
    images = {}
    for start, length, crc in one.images:
        image = data[start - one.start : start - one.start + length]
        if zlib.crc32(image) == crc:
            images[one.shard, start] = np.frombuffer(image, np.uint8)
    return images
