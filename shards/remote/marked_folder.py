"""The marker of a cache folder: without it a folder is not used, so nobody else's files are removed.
And what is to know of handles of such a folder and its files.
"""

import os
import stat
from pathlib import Path

from shards.errors import DataError, remedy

MARKER = "tarmac-cache"
_SPARE_SHARE = 0.02  # of a disk that is left free where no size of the cache is given,
_SPARE_BYTES = 1_000_000_000  # and what is enough of a large one
_MARK = b"Tarmac keeps copies of shards here, and removes them. Delete the folder if you like.\n"


def open_marked(path: Path) -> int:
    """Open a cache folder that has our marker, or make it of a new or empty one. Raises DataError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be the cache ({error.strerror}); {remedy(error)}, or choose another "
            f"--cache-dir"
        ) from None
    try:
        if not _is_marked(handle):
            # another process may have made it a cache meanwhile: the marker comes first
            if os.listdir(handle) and not _is_marked(handle):
                raise DataError(
                    f"{path}: is not empty and no cache of Tarmac's, and a cache removes files: "
                    f"give --cache-dir a new or empty folder"
                )
            _mark(handle)
        return handle
    except OSError as error:
        os.close(handle)
        raise DataError(
            f"{path}: cannot be the cache ({error.strerror}); {remedy(error)}, or choose another "
            f"--cache-dir"
        ) from None
    except BaseException:
        os.close(handle)
        raise


def free_bytes(handle: int) -> tuple[int, int]:
    """Count the bytes that are free on a folder's disk, and those that a cache without a size
    leaves to others.
    """
    disk = os.statvfs(handle)
    spare = int(_SPARE_SHARE * disk.f_blocks * disk.f_frsize)
    return disk.f_bavail * disk.f_frsize, min(_SPARE_BYTES, spare)


def has_name(handle: int, name: str, folder: int) -> bool:
    """Tell whether an open file still has its name in a folder."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(handle))


def _is_marked(handle: int) -> bool:
    try:
        found = os.stat(MARKER, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode)


def _mark(handle: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(MARKER, flags, 0o644, dir_fd=handle), "wb") as file:
        file.write(_MARK)


def names_in(handle: int, path: Path) -> list[str]:
    """List an open folder, through a handle of this call's own; one that was removed has nothing.
    Raises DataError.

    Copies of a handle share its position: a thread that lists at the same time, or a process that
    was forked, would see what is left of the list, or nothing.
    """
    try:
        own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
        try:
            return os.listdir(own)
        finally:
            os.close(own)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(
            f"{path}: cannot be listed ({error.strerror}); {remedy(error)}, or choose another "
            "--cache-dir"
        ) from None


def bytes_on_disk(found: os.stat_result) -> int:
    """Count the bytes of a file that take space: holes do not. Where nothing is known blocks are 0."""
    return min(found.st_size, 512 * found.st_blocks or found.st_size)


def default_folder() -> Path:
    """Name the cache folder where none is given: ~/.cache/tarmac."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tarmac"
