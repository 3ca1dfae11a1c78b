"""Check a split by its address: its files are fetched into a folder that is removed afterwards.

Shards come one after the other through the cache, so it need not hold the whole set.
"""

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from preprocess.packing.pool import TASKS_PER_WORKER, Pool
from preprocess.packing.resume import lists_of
from preprocess.verifying.packed_folder import read_written
from preprocess.verifying.verification import ShardTask, Verification, verify_split
from shards.disk.format import ENTRIES_NAME, INDEX_NAME
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.remote.address import Address
from shards.remote.opening import MAX_INDEX_BYTES, SPLITS, fetch_small, open_remote, there_of
from shards.remote.patience import MissingError
from shards.remote.transfer import open_store

MAX_LIST_BYTES = 1 << 28  # of an .idx or a list of rejected images


def find_remote_splits(data: Address) -> list[Address]:
    """List the splits of a dataset by address, those of the usual names; `data` if it is one."""
    found = there_of(data, ("", *SPLITS))
    if "" in found:
        return [data]
    if not found:
        raise DataError(
            f"{data}: has no split {' or '.join(SPLITS)}, and no folder is listed: give the "
            f"address of a split"
        )
    return [data / split for split in found]


def verify_remote(
    address: Address, pool: Pool, cache_dir: str = "", cache_gb: float = 0.0
) -> Verification:
    """Check a split by its address as `verify_split` does a folder."""
    with tempfile.TemporaryDirectory(prefix="tarmac-verify-") as temporary:
        folder = Path(temporary) / address.name
        folder.mkdir()
        index = open_remote(address, cache_dir, cache_gb)
        arriving = _Arriving(address, index, folder, TASKS_PER_WORKER * pool.workers + 1)
        verified = verify_split(folder, pool, arriving)
    findings = [replace(finding, root=str(address)) for finding in verified.findings]
    return replace(verified, findings=findings)


class _Arriving:
    """Yields tasks when their shards are here. `num_open` of them stay in the cache: as many as are
    asked for before the first is done.
    """

    def __init__(self, address: Address, index: DatasetIndex, folder: Path, num_open: int) -> None:
        assert index.remote is not None
        self._address = address
        self._folder = folder
        self._store = open_store(address)
        self._remote = index.remote
        self._open: deque[BinaryIO] = deque(maxlen=num_open)
        data = fetch_small(self._store, address / INDEX_NAME, MAX_INDEX_BYTES)
        (folder / INDEX_NAME).write_bytes(data)
        _ = index.key_bytes  # fetched now: they are checked, too
        for name, path in self._remote.all_tables().items():
            (folder / name).symlink_to(path.resolve())
        self._bring(ENTRIES_NAME)
        for name, lines in lists_of(read_written(folder).entries).items():
            if lines:
                self._bring(name)

    def __call__(self, tasks: Iterable[ShardTask]) -> Iterator[ShardTask]:
        for task in tasks:
            name = task.entry.name
            try:
                self._open.append(self._remote.open(task.number))
                cached = self._remote.folder.path.resolve() / task.entry.sha256
                (self._folder / name).symlink_to(cached)
            except DataError as error:  # then it is found to be missing
                print(error)
            self._bring(Path(name).with_suffix(".idx").name)
            yield task

    def _bring(self, name: str) -> None:
        """Fetch a small file, if there is one."""
        with suppress(MissingError):
            data = fetch_small(self._store, self._address / name, MAX_LIST_BYTES)
            (self._folder / name).write_bytes(data)
