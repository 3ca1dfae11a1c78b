"""Memory that the processes of a job share on one machine, and that is gone when the last of them
is, however it ends.

On Linux the pages are a memfd: no file system lists it, and /dev/shm, small in containers, does not
limit it. The first process of the job makes it and leaves a notice in a small file; the others open
it through /proc. The last one to come removes the notice. Elsewhere every process has pages of its
own.
"""

import contextlib
import hashlib
import json
import math
import mmap
import os
import socket
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from shards.errors import DataError
from shards.host.file_locks import unlock
from shards.host.machine import machine_name

PREFIX = "tarmac-"  # of the notices in the folder for temporary files


def shared_memory(num_bytes: int, name: str, num_sharers: int = 1) -> np.ndarray:
    """Give zeros, uint8 [num_bytes]: the same pages to all `num_sharers` processes of this job that
    ask by one `name`.

    The job is known from the environment that torchrun and accelerate make; outside of one nobody
    shares. Raises DataError where the machine has not so much memory left.
    """
    if sys.platform != "linux":
        check_room(num_bytes)
        return np.frombuffer(mmap.mmap(-1, num_bytes), np.uint8)
    if num_sharers == 1 or "MASTER_PORT" not in os.environ:
        return _mapped(_reserve(num_bytes), num_bytes)
    job = [os.environ.get(key) for key in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")]
    job.append(machine_name())  # several may have one folder for temporary files
    digest = hashlib.blake2b(
        json.dumps([*job, name, num_bytes, os.getuid()]).encode(), digest_size=12
    ).hexdigest()
    path = Path(tempfile.gettempdir()) / f"{PREFIX}{digest}"
    _remove_stale_notices(path)
    with _locked(path) as file:
        handle, notice = _join(file.read()) or _lead(num_bytes)
        notice["num_met"] += 1
        if notice["num_met"] == num_sharers:
            path.unlink()
        else:
            file.seek(0)
            file.truncate()
            file.write(json.dumps(notice))
    return _mapped(handle, num_bytes)


def _lead(num_bytes: int) -> tuple[int, dict[str, Any]]:
    handle = _reserve(num_bytes)
    inode = os.fstat(handle).st_ino
    return handle, {
        "host": socket.gethostname(),
        "holder": os.getpid(),
        "handle": handle,
        "inode": inode,
        "size": num_bytes,
        "num_met": 0,
    }


def _join(text: str) -> tuple[int, dict[str, Any]] | None:
    """Open what a notice tells of; None where there is none or its process is gone."""
    try:
        notice = json.loads(text)
        handle = os.open(
            f"/proc/{notice['holder']}/fd/{notice['handle']}", os.O_RDWR | os.O_CLOEXEC
        )
    except (ValueError, KeyError, TypeError, OSError):
        return None
    status = os.fstat(handle)
    # another process by an old number
    if (status.st_ino, status.st_size) != (notice["inode"], notice["size"]):
        os.close(handle)
        return None
    return handle, notice


def _remove_stale_notices(ours: Path) -> None:
    """Remove what jobs that were killed before all their processes had met left behind."""
    import fcntl

    for path in ours.parent.glob(f"{PREFIX}*"):
        # of another user, held by its job at this moment, or gone
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(handle) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                text = file.read()
                if not text or path == ours or not _is_of_this_host(text):
                    continue  # an empty one is about to be written
                joined = _join(text)
                if joined is not None:
                    os.close(joined[0])
                else:
                    path.unlink()


def _is_of_this_host(text: str) -> bool:
    """Tell whether a notice is one of this host: of another one's nobody here knows the processes."""
    try:
        return json.loads(text).get("host", socket.gethostname()) == socket.gethostname()
    except (ValueError, AttributeError):
        return True


def _reserve(num_bytes: int) -> int:
    """Make a memfd with all its pages, so that none is missing later."""
    check_room(num_bytes)
    handle = os.memfd_create("tarmac")
    try:
        os.posix_fallocate(handle, 0, num_bytes)
    except OSError as error:
        os.close(handle)
        raise DataError(
            f"no {num_bytes / 1e9:.1f} GB of shared memory: {error.strerror}"
        ) from error
    return handle


def check_room(num_bytes: int) -> None:
    """Raise DataError where the machine, or the container, has not so much memory left."""
    available = min(psutil.virtual_memory().available, _left_to_container())
    if num_bytes > available:
        raise DataError(
            f"{num_bytes / 1e9:.2f} GB of memory are needed, {available / 1e9:.2f} GB are available"
        )


def _left_to_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Tell the bytes that a container's limit leaves (cgroup, version 2 or 1); infinity without
    one.

    The page cache counts as used there, but the kernel gives it back when memory is asked for: it
    is left, too.
    """
    for limit, used, counts, prefix in (
        ("memory.max", "memory.current", "memory.stat", ""),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):  # not there, or `max`
            allowed, in_use = (int((folder / name).read_text()) for name in (limit, used))
            return max(0, allowed - max(0, in_use - _cached_files(folder / counts, prefix)))
    return math.inf


def _cached_files(counts: Path, prefix: str) -> int:
    """Sum the bytes of files that a cgroup's memory.stat tells of; 0 where there is none."""
    with contextlib.suppress(OSError, ValueError):
        numbers = dict(line.split() for line in counts.read_text().splitlines())
        return sum(int(numbers.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
    return 0


def _mapped(handle: int, num_bytes: int) -> np.ndarray:
    """Map a memfd; it stays open for others to find as long as the array lives."""
    memory = np.frombuffer(mmap.mmap(handle, num_bytes), np.uint8)
    weakref.finalize(memory, os.close, handle)
    return memory


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """Open a file that only this user can read, for this process alone."""
    import fcntl

    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataError(
                f"{path}: {error.strerror}; remove it, or set TMPDIR to a folder of your own"
            ) from error
        with open(handle, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:  # otherwise its last sharer has just removed it
                try:
                    yield file
                    file.flush()
                finally:
                    unlock(handle)
                return
