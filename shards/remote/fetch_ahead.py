"""Fetch what a run needs before it needs it: the order is known, so the cache is too."""

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from shards.disk.format import ROWS_NAME
from shards.disk.tables import Shard
from shards.errors import DataError
from shards.remote import patience
from shards.remote.address import Address
from shards.remote.cache_folder import NEVER_S, CacheFolder, Wanted
from shards.remote.early_images import EarlyImages, RangeReader, worth_reading
from shards.remote.future import Course, Future, most_open_bytes
from shards.remote.patience import ObjectStore
from shards.remote.remote_shards import RemoteShards
from shards.remote.row_parts import RowParts

DOWNLOADS = 4  # at once, of each process: one connection does not fill a fast link
NOTE_S = 5.0  # how often the cache is looked at, and when it is needed noted in it
RELEASE_S = 1.0  # how often shards are closed where the cache has room for all of them
RETRY_S = 30.0  # what could not be fetched ahead is tried again after so long
LOOKED_AT = 64  # missing shards at once
EARLY_STEPS = 4  # of a run: what two threads make before they wait for who takes the batches
EARLY_SHARE = 0.05  # of the set that ranges for all but the first of them may bring: it comes twice
NO_STEP = np.iinfo(np.int64).max
GB = 1e9


class FollowedShards(RemoteShards):
    """Shards of a split, fetched in the order of a run once `follow` has said what that is.

    Without it they are fetched when asked for. `has_crcs` says that rows have the CRC-32 of each
    image: those of the first batches are then read by ranges, before their shards are here. `rows`
    are those that come part by part: a shard's with it.
    """

    def __init__(
        self,
        root: Address,
        store: ObjectStore,
        folder: CacheFolder,
        shards: Sequence[Shard],
        has_crcs: bool = False,
        rows: RowParts | None = None,
    ) -> None:
        super().__init__(root, store, folder, shards)
        self._rows = rows
        if rows is not None:
            rows.note = _noting(weakref.ref(self))
        self._ranges = RangeReader(store, folder, shards) if has_crcs else None
        self._num_early = 0  # bytes that were read by ranges
        self._first_step = 0  # of this process
        self._first_until = 0.0
        self._first_whole: set[int] = set()  # what it needs as whole shards
        self._sizes = np.array([shard.num_bytes for shard in shards], np.int64)
        self._here = np.zeros(len(shards), bool)  # in the cache, as far as this process knows
        self._future: Future | None = None
        self._needed: set[int] = set()
        self._released_at = 0.0
        self._room_for = 0  # so many shards, as far as the disk was free when a run began
        self._step_s = 1.0
        self._turned_at = time.monotonic()
        self._noted_at = 0.0
        self._failed: dict[int, float] = {}
        self._process = 0

    def begin_process(self) -> None:
        """Begin without other threads, here and in a process that was forked."""
        super().begin_process()
        self._ranges_turn = threading.Lock()
        self._making: dict[int, int] = {}  # steps that threads are at -> how many threads
        self._first_comes = False  # by ranges: it has the link for itself, but not for ever

    def follow(
        self, course: Course, is_first: bool = True, begins: tuple[int, int] | None = None
    ) -> None:
        """Fetch ahead from now on.

        Raises DataError where the cache has no room for what is needed at once; `is_first` says in
        one line where it has little. `begins` is the epoch and the step of the first batch, if it
        will ask for `early_images`.
        """
        self._check_room(course, is_first)
        with self.changed:
            future = Future(course, len(self.shards))
            if self._future is None and begins is not None and self._ranges is not None:
                self._first_step = future.at(*begins)
                self._first_comes = True
                self._first_until = time.monotonic() + patience.PATIENCE.window_s
            self._future = future
        self.start()

    def early_place(self, at: tuple[int, int] | None) -> int | None:
        """Tell the place among the first batches of a process of one that may come early, by ranges;
        None of all others. `at` is its epoch and step, None before the run is followed.
        """
        future = self._future
        place = 1 if at is None or future is None else future.at(*at) - self._first_step
        return place if self._ranges is not None and 0 <= place < EARLY_STEPS else None

    def early_images(self, rows: np.ndarray, num_members: int, place: int) -> EarlyImages:
        """Read images whose shards are not here by ranges, for the first batch (place 0) or one of
        the next. What is left out has to be read from its shard.
        """
        with self.changed:
            if place:
                self.changed.wait_for(
                    lambda: not self._first_comes, self._first_until - time.monotonic()
                )
        try:
            with self._ranges_turn:
                return self._read_early(rows, num_members, is_first=place == 0)
        finally:
            if place == 0:
                with self.changed:
                    self._first_comes = False
                    self.changed.notify_all()

    def _read_early(self, rows: np.ndarray, num_members: int, is_first: bool) -> EarlyImages:
        assert self._ranges is not None
        ranges, whole = worth_reading(self._ranges.wanted(rows, num_members), self.shards)
        # what the first batch needs whole is under way
        ranges = [each for each in ranges if each.shard not in self._first_whole]
        num_bytes = sum(each.num_bytes for each in ranges)
        with self.changed:
            if not is_first and self._num_early + num_bytes > EARLY_SHARE * self._sizes.sum():
                return {}
            self._num_early += num_bytes
            if is_first:
                self._first_whole = whole
                self.changed.notify_all()
        return self._ranges.read(ranges, self._note)

    def _may_fetch(self, number: int) -> bool:
        """Tell whether a shard may be fetched ahead: while the first batch comes, what it needs."""
        is_first_left = self._first_comes or not self._here[list(self._first_whole)].all()
        if is_first_left and time.monotonic() < self._first_until:
            return number in self._first_whole
        return True

    def start(self) -> None:
        """Start the threads that fetch, once in each process: they do not survive a fork."""
        with self.changed:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
        for _ in range(DOWNLOADS):
            threading.Thread(
                target=_run, args=(weakref.ref(self),), name="tarmac-fetch", daemon=True
            ).start()

    @contextmanager
    def turn(self, epoch: int, step: int) -> Iterator[None]:
        """Make a batch of the run that is followed; what only earlier ones needed may go."""
        with self.changed:
            future = self._future
            assert future is not None, "follow comes first"
            at = future.at(epoch, step)
            self._making[at] = self._making.get(at, 0) + 1
            needed = self._moved_on(future)
        if needed is not None:
            self.release(needed)
        try:
            yield
        finally:
            with self.changed:
                self._making[at] -= 1
                if not self._making[at]:
                    del self._making[at]

    def num_at_once(self) -> int:
        """Count the shards that may be open where nobody says what is needed next: half a cache."""
        return max(1, self.folder.room() // 2 // max(1, int(self._sizes.max(initial=1))))

    def outlook(self) -> Wanted:
        """Tell in how many seconds objects are needed, as seen from now; None of other splits'."""
        with self.changed:
            future = self._future
            if future is not None:
                return self._outlook(future.next_use(), future.now)
        return super().outlook()

    def all_tables(self) -> dict[str, Path]:
        """Name the files of the split's tables, when all rows are here."""
        if self._rows is None:
            return self.stored
        self._rows.bring(np.arange(len(self.shards)))
        return {**self.stored, ROWS_NAME: self._rows.path}

    def arrived(self, number: int) -> None:
        """Note that a shard is in the cache."""
        self._here[number] = True

    def _note_removed(self) -> None:
        while self.folder.removed:
            number = self.numbers.get(self.folder.removed.popleft())
            if number is not None:
                self._here[number] = False

    def make_way(self) -> None:
        """Close what no batch that is being made needs."""
        with self.changed:
            future = self._future
            needed = future.open_at(self._making) if future else set()
        self.release(needed)

    def fetch_one(self) -> bool:
        """Fetch the shard that is needed first of those not here; False if there is none, or no
        room.
        """
        with self.changed:
            future = self._future
            if future is None:
                return False
            self._look_at_cache()
            self._note_removed()
            has_rows = self._rows is None or self._rows.here[future.used].all()
            if self._here[future.used].all() and has_rows:
                return False
            next_use = future.next_use()
            now = future.now
            coming = future.coming()
            num_open = int((next_use <= now).sum())
            # those in front are enough: the rest are looked at when these are here
            places = np.flatnonzero(~self._here[coming])[:LOOKED_AT].tolist()
            missing = [place for place in places if self._may_try(int(coming[place]))]
            soon = self._rows_soon(coming[: missing[0] + 1] if missing else coming[:LOOKED_AT])
        if len(soon) and self._rows is not None and self._rows.ahead(soon):
            return True
        # half of what is not open at most, or all of a small cache would only be looked ahead with
        spare = (self._room_for - num_open) // 2
        near = num_open + max(1, min(max(DOWNLOADS, num_open // 2), spare))
        # the first batches have the link for themselves
        starts = self.num_waiting > 0 and not self._here.any()
        outlook = self._outlook(next_use, now)
        for place in missing:
            number = int(coming[place])
            if starts and next_use[number] > now:
                return False
            # far from now only what fits beside the rest
            before = outlook(self.shards[number].sha256) if place < near else None
            try:
                outcome = self.fetch(number, outlook, 10 * NEVER_S if before is None else before)
            except DataError:  # who needs it tries again, and raises it
                with self.changed:
                    self._failed[number] = time.monotonic()
                continue
            if outcome != "busy":
                return outcome != "full"
        return False

    def _rows_soon(self, numbers: np.ndarray) -> np.ndarray:
        """Name those of some shards whose rows are not here and may be fetched ahead."""
        if self._rows is None:
            return numbers[:0]
        missing = numbers[~self._rows.here[numbers]]
        return np.array([number for number in missing.tolist() if self._may_fetch(number)], int)

    def _may_try(self, number: int) -> bool:
        return (
            self._may_fetch(number)
            and not self.is_fetching(number)
            and time.monotonic() - self._failed.get(number, -RETRY_S) >= RETRY_S
        )

    def _moved_on(self, future: Future) -> set[int] | None:
        """Move the future to the earliest step that is being made; name the shards that those steps
        need, if they are others than before.
        """
        before = future.now
        earliest = min(self._making)
        future.turn_to(earliest)
        now = time.monotonic()
        if 0 < future.now - before <= 16:
            took = (now - self._turned_at) / (future.now - before)
            self._step_s += 0.1 * (took - self._step_s)
        if future.now != before:
            self._turned_at = now
        # with room for all of them other jobs alone can want that they are closed, and wait a while
        if self._room_for >= len(self.shards) and now - self._released_at < RELEASE_S:
            return None
        self._released_at = now
        # what no thread is at any more may go, though an earlier step is still being made
        needed = future.open_at(self._making)
        if needed == self._needed:
            return None
        self._needed = needed
        self.changed.notify_all()  # room may be made, and more may be fetched
        return needed

    def _outlook(self, next_use: np.ndarray, now: int) -> Wanted:
        step_s = self._step_s

        def wanted(sha256: str) -> float | None:
            number = self.numbers.get(sha256)
            if number is None:
                return None
            step = int(next_use[number])
            return NEVER_S if step == NO_STEP else (step - now) * step_s

        return wanted

    def _look_at_cache(self) -> None:
        """See what others have fetched and removed, and note for them when ours is needed."""
        now = time.monotonic()
        if now - self._noted_at < NOTE_S:
            return
        self._noted_at = now
        assert self._future is not None
        wanted = self._outlook(self._future.next_use(), self._future.now)
        self._here[:] = False
        for sha256 in self.folder.listed():
            if (needed_in := wanted(sha256)) is not None:
                self._here[self.numbers[sha256]] = True
                if needed_in < NEVER_S:
                    self.folder.stamp(sha256, needed_in)

    def _check_room(self, course: Course, is_first: bool) -> None:
        uses = course.uses_of(0)
        rows = 0 if self._rows is None else self._rows.num_bytes(np.unique(uses[:, 2]))
        room = max(0, self.folder.room() - rows)  # beside the rows, which stay
        self._room_for = int(room / max(1.0, float(self._sizes.mean())))
        needed = most_open_bytes(uses, self._sizes)
        smooth = min(2 * needed, int(self._sizes.sum()))
        wanted = f"--cache-gb {(smooth + rows) / GB + 0.001:.3g}"
        beside = f" beside {rows / GB:.3g} GB of rows" if rows else ""
        sizes = (
            f"{self.root}: {needed / GB:.3g} GB of its shards are needed at once, of "
            f"{self._sizes.sum() / GB:.3g} GB in all, and the cache {self.folder.path} has room for "
            f"{room / GB:.3g} GB{beside}"
        )
        if needed > room:
            raise DataError(f"{sizes}: give {wanted} or a larger disk")
        if smooth > room and is_first and self._future is None:
            print(
                f"{sizes}: batches will wait for shards; {wanted} would be smooth",
                file=sys.stderr,
            )


def _noting(owner: "weakref.ref[FollowedShards]") -> Callable[[int], None]:
    """Make what counts bytes for shards, which nothing else holds on to."""

    def note(num_bytes: int) -> None:
        if (shards := owner()) is not None:
            shards.num_received += num_bytes

    return note


def _run(owner: "weakref.ref[FollowedShards]") -> None:
    """Fetch for as long as anybody has the shards; one thread of several."""
    while (shards := owner()) is not None:
        changed = shards.changed
        worked = False
        with suppress(DataError):  # who needs a shard raises it
            worked = shards.fetch_one()
        del shards
        if not worked:
            with suppress(RuntimeError), changed:
                changed.wait(1.0)
