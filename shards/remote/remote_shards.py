"""The shards of one split that are somewhere else: fetched into the cache, checked, opened.

Invariant: whatever a reader gets is whole and has the SHA-256 that the index lists.
"""

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from shards.disk.format import INDEX_NAME
from shards.disk.tables import Shard
from shards.errors import DataError, remedy
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder, Part, Wanted
from shards.remote.growth import LOOK_S, Growth
from shards.remote.patience import ObjectChangedError, ObjectStore
from shards.remote.transfer import Transfer

CROWDED_S = 2.0  # so long room is waited for before the cache grows beyond its size
REPLACED_S = 30.0  # so long an object that was replaced is not asked for again

Fetched = Literal["done", "there", "busy", "full"]


class Reader(Protocol):
    """Has shards open."""

    def keep_only(self, needed: Collection[int]) -> None:
        """Close all other shards."""


class RemoteShards:
    """Opens the shards of a split. Threads may share one."""

    def __init__(
        self, root: Address, store: ObjectStore, folder: CacheFolder, shards: Sequence[Shard]
    ) -> None:
        self.root = root
        self.folder = folder
        self.shards = shards
        self.num_received = 0  # bytes: who waits for a shard can tell that something arrives
        self.stored: dict[str, Path] = {}  # where its tables are, once all of one is here
        self.held: list[BinaryIO] = []  # the split's tables, which stay in the cache
        self.reopening: tuple[str, float, str] = ("", 0.0, "")  # for another process
        self._store = store
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self.numbers = {shard.sha256: number for number, shard in enumerate(shards)}
        self._opened_at: dict[str, float] = {}
        self._replaced: dict[int, tuple[float, str]] = {}
        self.begin_process()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=_beginning(weakref.ref(self)))

    def begin_process(self) -> None:
        """Begin without other threads, here and in a process that was forked: those of its parent,
        with their locks and what they were fetching, are not in it.
        """
        self.changed = threading.Condition()
        self.num_waiting = 0  # readers that wait for a shard
        self._fetching: set[int] = set()

    def open(self, number: int) -> BinaryIO:
        """Open a shard, fetched if need be; it stays while the file or a map of it is open.

        Raises DataError with the object's address where it cannot be had.
        """
        shard = self.shards[number]
        self._opened_at[shard.sha256] = time.monotonic()
        while (file := self.folder.open_object(shard.sha256)) is None:
            with self._waiting():
                self._fetch_now(number)
        if os.fstat(file.fileno()).st_size != shard.num_bytes:
            file.close()
            raise DataError(
                f"{self.folder.path / shard.sha256}: is not as long as when it was fetched; "
                f"delete it, and it is fetched again"
            )
        return file

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self.changed:
            self.num_waiting += 1
        try:
            yield
        finally:
            with self.changed:
                self.num_waiting -= 1
                self.changed.notify_all()

    def outlook(self) -> Wanted:
        """Tell in how many seconds objects are needed, as seen from now."""
        now = time.monotonic()

        def wanted(sha256: str) -> float | None:
            """Without a plan, what was opened last is kept longest."""
            if sha256 not in self.numbers:
                return None
            return 1.0 + now - self._opened_at.get(sha256, 0.0)

        return wanted

    def arrived(self, number: int) -> None:
        """Note that a shard is in the cache."""

    def make_way(self) -> None:
        """Close the shards that nothing needs just now."""
        self.release(set())

    def add_reader(self, reader: Reader) -> None:
        """Let a reader be asked to close shards, as long as anybody has it."""
        with self.changed:
            self._readers.add(reader)

    def release(self, needed: set[int]) -> None:
        """Close what is open and not needed, so that it may go."""
        with self.changed:  # nobody may add one meanwhile
            readers = list(self._readers)
        for reader in readers:
            reader.keep_only(needed)

    def is_fetching(self, number: int) -> bool:
        """Tell whether a thread here is fetching a shard."""
        return number in self._fetching

    def fetch(self, number: int, wanted: Wanted, before: float, force: bool = False) -> Fetched:
        """Fetch a shard, unless it is there, somebody else is doing it, or there is no room.

        Objects of the cache that are needed later than `before` seconds from now may go.
        """
        shard = self.shards[number]
        with self._claimed(number) as is_mine:
            if not is_mine:
                return "busy"
            self._check_replaced(number)
            begun = self.folder.begin(shard.sha256, shard.num_bytes, wanted, before, force)
            if not isinstance(begun, Part):
                if begun == "there":
                    self.arrived(number)
                return begun
            self._download(begun, number)
            self.arrived(number)
            self.folder.stamp(shard.sha256, wanted(shard.sha256) or 0.0)
            return "done"

    @contextmanager
    def _claimed(self, number: int) -> Iterator[bool]:
        with self.changed:
            is_mine = number not in self._fetching
            self._fetching.add(number)
        try:
            yield is_mine
        finally:
            if is_mine:
                with self.changed:
                    self._fetching.discard(number)
                    self.changed.notify_all()

    def _fetch_now(self, number: int) -> None:
        """Fetch a shard that a reader waits for, or wait for who is fetching it."""
        crowded_at = time.monotonic() + CROWDED_S
        shard = self.shards[number]
        others = Growth(self.folder, shard.sha256, shard.num_bytes)
        while True:
            force = time.monotonic() > crowded_at
            outcome = self.fetch(number, self.outlook(), 0.0, force)
            if outcome in ("done", "there"):
                return
            if outcome == "full":
                self.make_way()
            else:
                crowded_at = time.monotonic() + CROWDED_S
                if not self.is_fetching(number):
                    others.check()
            with self.changed:
                self.changed.wait(LOOK_S)

    def _check_replaced(self, number: int) -> None:
        """Raise again what was found of an object just now: other threads wait for it, too."""
        found_at, line = self._replaced.get(number, (-REPLACED_S, ""))
        if time.monotonic() - found_at < REPLACED_S:
            raise DataError(line)

    def _download(self, part: Part, number: int) -> None:
        """Bring an object; one that is not what the index lists is fetched once more."""
        shard = self.shards[number]
        where = self.root / shard.name
        length = shard.num_bytes
        transfer = Transfer(self._store, where, part.file, length, length, self._note)
        try:
            transfer.take_up()
            for _ in range(2):
                try:
                    if transfer.run() == shard.sha256:
                        part.finish()
                        return
                except ObjectChangedError:
                    pass
                transfer.start_again()
            part.drop()
            line = (
                f"{where}: is not the object that {INDEX_NAME} lists: its length or SHA-256 "
                f"differs, and did again when it was fetched once more; was it replaced? upload "
                f"the set again as it was packed"
            )
            self._replaced[number] = (time.monotonic(), line)
            raise DataError(line)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                part.drop()
            raise DataError(
                f"{self.folder.path}: cannot keep {where} ({error.strerror}); "
                f"{remedy(error)}, free some space or choose another --cache-dir"
            ) from None
        finally:
            part.close()

    def _note(self, num_bytes: int) -> None:
        self.num_received += num_bytes


def _beginning(owner: "weakref.ref[RemoteShards]") -> Callable[[], None]:
    """Make what is called in a process that was forked, which nothing else holds on to."""

    def begin() -> None:
        if (shards := owner()) is not None:
            shards.begin_process()

    return begin
