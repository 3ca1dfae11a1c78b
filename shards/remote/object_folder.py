"""The objects below an address, to be put there, listed and removed, by fsspec's file systems.

Each request is tried again as long as patience says. What a server answers is not shown: it may
hold secrets.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from shards.errors import DataError, one_line
from shards.remote import patience
from shards.remote.address import Address
from shards.remote.fsspec_store import FsspecStore, in_time
from shards.remote.patience import TransferError, UnreachableError

# File systems without folders: to make one would make a bucket of a mistyped name.
FLAT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "hf", "oci", "ocilake"}
TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
REMOVED_AT_ONCE = 1000
LISTING_BYTES = 8 << 20  # for whose time a listing, of 100,000 shards 200 answers, may take

T = TypeVar("T")


class StoredObject(NamedTuple):
    """What a listing says of an object; `time` is 0.0 where it does not say when it was put."""

    num_bytes: int
    time: float


class ObjectFolder(FsspecStore):
    """Objects below an address, which is that of a split. Threads may share one."""

    def __init__(self, root: Address) -> None:
        if root.scheme in ("http", "https"):
            raise DataError(
                f"{root}: nothing can be written by {root.scheme}://; give the address of a bucket, "
                "such as s3://bucket/voc, or a folder"
            )
        super().__init__(root)

    def listed(self, folder: str = "") -> dict[str, StoredObject]:
        """List objects by their names, without those in folders below. None: nothing is there."""
        path = f"{self._path}/{folder}".rstrip("/")

        def work() -> dict[str, StoredObject]:
            self._system.invalidate_cache()
            try:
                found = self._system.ls(path, detail=True)
            except FileNotFoundError:
                return {}
            files = [each for each in found if each.get("type") == "file"]
            named = {str(each["name"]).rstrip("/").rpartition("/")[2]: each for each in files}
            return {
                name: StoredObject(int(each["size"] or 0), _time(each))
                for name, each in named.items()
                if str(each["name"]).rstrip("/") != path
            }

        where = self.root / folder if folder else self.root
        return self._patiently(work, LISTING_BYTES, where)

    def put(self, path: Path, name: str) -> None:
        """Put a file there, whole. Raises UnreachableError, or a line about access."""
        to = f"{self._path}/{name}"
        num_bytes = path.stat().st_size

        def work() -> None:
            if self.root.scheme not in FLAT:
                self._system.makedirs(to.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(path), to)
            self._system.invalidate_cache()
            if self._system.info(to)["size"] != num_bytes:
                raise TransferError("what arrived has another length")

        self._patiently(work, num_bytes, self.root / name)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; one that is not there is none."""
        for start in range(0, len(names), REMOVED_AT_ONCE):
            some = names[start : start + REMOVED_AT_ONCE]
            self._patiently(partial(self._removed, some), LISTING_BYTES, self.root / some[0])

    def _removed(self, names: Sequence[str]) -> None:
        paths = [f"{self._path}/{name}" for name in names]
        try:
            self._system.rm(paths)
        except FileNotFoundError:
            for path in paths:
                if self._system.exists(path):
                    self._system.rm_file(path)

    def _patiently(self, work: Callable[[], T], num_bytes: int, where: Address) -> T:
        limits = patience.PATIENCE
        for failures in itertools.count(1):
            try:
                return in_time(work, num_bytes, where)
            except TransferError as error:
                if failures >= limits.attempts:
                    raise UnreachableError(
                        f"{where}: {one_line(error)}, {failures} times one after the other; check "
                        "the server and the network, then run the same command again"
                    ) from None
                time.sleep(limits.pause(failures, error.retry_after_s))
        raise AssertionError("the loop has no end")


def _time(told: dict[str, Any]) -> float:
    """Read when an object was put, in seconds; file systems call it by many names."""
    for name in TIMES:
        value = told.get(name)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0
