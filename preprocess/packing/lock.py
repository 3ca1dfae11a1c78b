"""Lock a split's folder: two packers would write the same shards under the same temporary names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import DataError
from shards.host.file_locks import unlock

try:
    import fcntl
except ImportError:  # Windows: packers are not guarded against each other there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """Lock a folder against other packers and repairs; no file is left behind. Raises DataError if
    one is running.

    The lock is on the folder's own descriptor, which no worker process inherits, so it ends with
    this process at the latest. Where a file system has no locks (NFS has none on a folder) the work
    is done without. The package filelock would leave a file of its own in the folder.
    """
    with _locked(root, exclusive=True):
        yield


@contextmanager
def together_in(root: Path) -> Iterator[None]:
    """Lock a folder against packers that want it alone, not against other tasks of one packing."""
    with _locked(root, exclusive=False):
        yield


@contextmanager
def _locked(root: Path, exclusive: bool) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{root}: another process packs into it: wait for it, or choose another --out"
            ) from error
        except OSError:
            pass
        yield
    finally:
        unlock(handle)
        os.close(handle)
