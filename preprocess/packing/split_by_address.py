"""Pack a split straight to an address, such as s3://bucket/voc/train.

A temporary folder here stands for the split: what is written down of it is brought, each shard is
put there as soon as it is finished, and gives its place on the disk back. Of a shard that is there
the folder holds a file of its length without any bytes.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from preprocess.packing.folder_state import FinishedShard, read_state, write_progress
from preprocess.packing.pack import Engine
from preprocess.packing.packing_plan import PackTask
from preprocess.packing.resume import Entry
from preprocess.packing.shard_file import PackSettings
from shards.disk.format import (
    ACCEPTED_NAME,
    DAMAGED_NAME,
    ENTRIES_NAME,
    FINISHED_NAME,
    INDEX_NAME,
    PROGRESS_NAME,
    REJECTED_NAME,
    ROWS_NAME,
    SAMPLES_NAME,
    TABLE_NAMES,
)
from shards.disk.writer import file_sha256
from shards.errors import DataError
from shards.remote.address import Address
from shards.remote.object_folder import ObjectFolder, StoredObject
from shards.remote.patience import ObjectChangedError
from shards.remote.transfer import Transfer

TRANSFERS = 16  # small objects at once
# A bucket's clock is not ours, and its times are whole seconds: what was written later than this
# after a shard has replaced what the shard was made of.
CLOCKS_APART_S = 60.0
UPLOADS = 2  # shards at once, of as many as wait here
LISTS = (REJECTED_NAME, ACCEPTED_NAME)


class SplitByAddress:
    """A split at `address`, and the folder `root` here that stands for it while it is packed."""

    def __init__(self, address: Address, root: Path) -> None:
        self.address = address
        self.root = root
        self._objects = ObjectFolder(address)
        self._finished = ObjectFolder(address / FINISHED_NAME)
        own = re.escape(address.name)
        self._of_shard = re.compile(rf"{own}-\d{{6,}}\.(tar|idx)")
        self._of_record = re.compile(rf"{own}-\d{{6,}}\.(json|npy)")
        self._brought: dict[str, str] = {}  # SHA-256 of index.json and tables as they were there
        self._records: set[str] = set()  # of finished shards, whose .json is there

    def bring(self, with_rows: bool) -> None:
        """Bring what the packer wrote down there; `with_rows`: what it needs to finish, too.

        Raises DataError where something else is there, or a set of format version 1.
        """
        there = self._objects.listed()
        if INDEX_NAME not in there and PROGRESS_NAME not in there:
            self._refuse_foreign(there)
            return
        if SAMPLES_NAME in there and ENTRIES_NAME not in there:
            raise DataError(
                f"{self.address}: is of format version 1, which is not gone on with by its "
                "address; copy it into a folder, and pack there or run python -m preprocess.upgrade"
            )
        names = [INDEX_NAME, PROGRESS_NAME, *(TABLE_NAMES if INDEX_NAME in there else ())]
        sizes = {name: there[name].num_bytes for name in names if name in there}
        _fetch_all(self._objects, self.root, sizes)
        self._brought = {
            name: file_sha256(self.root / name)
            for name in (INDEX_NAME, *TABLE_NAMES)
            if (self.root / name).is_file()
        }
        self.bring_finished(with_rows)
        with ThreadPoolExecutor(UPLOADS) as threads:
            entries = read_state(self.root, self.address.name).entries.values()
            list(threads.map(lambda entry: self._stand_in(entry, there, with_rows), entries))

    def _refuse_foreign(self, there: dict[str, StoredObject]) -> None:
        foreign = sorted(set(there) - {DAMAGED_NAME})
        if foreign:
            raise DataError(
                f"{self.address}: holds files that are no dataset, such as {foreign[0]}; choose "
                "another --out"
            )

    def bring_finished(self, with_rows: bool) -> None:
        """Bring what is written down of each finished shard, by whichever task."""
        folder = self.root / FINISHED_NAME
        folder.mkdir(exist_ok=True)
        found = self._finished.listed()
        self._records = {name for name in found if self._of_record.fullmatch(name)}
        ends = (".json", ".npy") if with_rows else (".json",)
        names = [name for name in self._records if name.endswith(ends)]
        missing = [name for name in names if not (folder / name).exists()]
        _fetch_all(self._finished, folder, {name: found[name].num_bytes for name in missing})

    def _stand_in(self, entry: Entry, there: dict[str, StoredObject], with_rows: bool) -> None:
        """Make a file of a shard's length; bring the shard where nothing else has its rows."""
        index = Path(entry.name).with_suffix(".idx").name
        found = there.get(entry.name)
        if found is None or index not in there or found.num_bytes != entry.bytes:
            return
        path = self.root / entry.name
        rows = (self.root / FINISHED_NAME / entry.name).with_suffix(".npy")
        if with_rows and not rows.exists() and ROWS_NAME not in self._brought:
            _fetch_all(self._objects, self.root, {entry.name: entry.bytes})
        else:
            path.touch()
            os.truncate(path, entry.bytes)
        if found.time:
            os.utime(path, (found.time + CLOCKS_APART_S,) * 2)

    def begin(self) -> None:
        """Make the split there an unfinished one, before a shard of it changes."""
        if (self.root / PROGRESS_NAME).exists():
            self._objects.put(self.root / PROGRESS_NAME, PROGRESS_NAME)
        self._unmark()

    def _unmark(self) -> None:
        """Remove the mark of completeness, if it is gone here."""
        if INDEX_NAME in self._brought and not (self.root / INDEX_NAME).exists():
            self._objects.remove([INDEX_NAME])
            del self._brought[INDEX_NAME]

    def send_shard(self, shard: FinishedShard) -> None:
        """Put a shard there, then what is written down of it: with that it is finished. Its bytes
        here are given up.
        """
        path = self.root / shard.entry.name
        record = path.with_suffix(".json").name
        if record in self._records:  # of a shard that was made of other images
            self._finished.remove([record])
        self._objects.put(path.with_suffix(".idx"), path.with_suffix(".idx").name)
        self._objects.put(path, path.name)
        for name in (path.with_suffix(".npy").name, record):
            self._finished.put(self.root / FINISHED_NAME / name, name)
        os.truncate(path, 0)
        os.truncate(path, shard.entry.bytes)

    def send_lists(self) -> None:
        """Put the lists of rejects there, or remove what was there of them."""
        for name in LISTS:
            if (self.root / name).exists():
                self._objects.put(self.root / name, name)
            else:
                self._objects.remove([name])

    def finish(self) -> None:
        """Put the tables there, then index.json; remove what is there only while packing.

        Nothing is put where index.json is the one that was there.
        """
        index = self.root / INDEX_NAME
        if not index.is_file():
            return
        if file_sha256(index) != self._brought.get(INDEX_NAME):
            self._send_tables()
            self.send_lists()
            self._objects.put(index, INDEX_NAME)
        self._clear_up()

    def _send_tables(self) -> None:
        changed = [
            name for name in TABLE_NAMES if file_sha256(self.root / name) != self._brought.get(name)
        ]
        if changed and INDEX_NAME in self._brought:
            # a kill between the tables must leave an unfinished set, and not a damaged one
            state = read_state(self.root, self.address.name)
            write_progress(self.root, state.parts, state.entries.values())
            self._objects.put(self.root / PROGRESS_NAME, PROGRESS_NAME)
            (self.root / PROGRESS_NAME).unlink()
            self._objects.remove([INDEX_NAME])
        for name in changed:
            self._objects.put(self.root / name, name)

    def _clear_up(self) -> None:
        """Remove what is there only while packing, and shards of a longer packing."""
        there = self._objects.listed()
        kept = {Path(name).stem for name in read_state(self.root, self.address.name).entries}
        shards = [name for name in there if self._of_shard.fullmatch(name)]
        self._objects.remove([name for name in shards if Path(name).stem not in kept])
        self._finished.remove(sorted(filter(self._of_record.fullmatch, self._finished.listed())))
        self._objects.remove([PROGRESS_NAME] if PROGRESS_NAME in there else [])


class SendingEngine:
    """An engine whose shards are at their address when it yields them."""

    def __init__(self, engine: Engine, split: SplitByAddress) -> None:
        self._engine = engine
        self._split = split

    def pack(
        self, settings: PackSettings, tasks: Iterable[PackTask], advance: Callable[[int], None]
    ) -> Iterator[FinishedShard]:
        """Yield shards as they have arrived there. `advance` is called with numbers of images."""
        self._split.begin()
        waiting: deque[tuple[FinishedShard, Future[None]]] = deque()
        # What stops the packing lets the shards that are finished arrive.
        with ThreadPoolExecutor(UPLOADS) as threads:
            for shard in self._engine.pack(settings, tasks, advance):
                waiting.append((shard, threads.submit(self._split.send_shard, shard)))
                while len(waiting) > UPLOADS:
                    yield _arrived(waiting)
            while waiting:
                yield _arrived(waiting)
        self._split.bring_finished(with_rows=False)


def _fetch_all(store: ObjectFolder, folder: Path, sizes: dict[str, int]) -> None:
    """Fetch objects into a folder, several at once, each whole or not at all."""

    def fetch(name: str) -> None:
        part = folder / f"{name}.part"
        with part.open("w+b") as file:
            where = store.root / name
            try:
                Transfer(store, where, file, sizes[name], sizes[name]).run()
            except ObjectChangedError:
                raise DataError(
                    f"{where}: was changed while it was read: does another command pack there? "
                    "Run the same command again"
                ) from None
        part.replace(folder / name)

    with ThreadPoolExecutor(TRANSFERS) as threads:
        list(threads.map(fetch, sizes))


def _arrived(waiting: deque[tuple[FinishedShard, Future[None]]]) -> FinishedShard:
    """Wait for the first shard. Where it cannot be sent the others are not tried."""
    shard, future = waiting.popleft()
    try:
        future.result()
    except BaseException:
        for _, other in waiting:
            other.cancel()
        raise
    return shard
