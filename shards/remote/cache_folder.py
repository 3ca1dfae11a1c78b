"""The cache on a disk of this machine: objects by their SHA-256, for all ranks and jobs here.

Everything is done through the folder's own handle, and only to regular files whose name is 64 hex
digits: `<sha256>`, whole and checked, or `<sha256>-<bytes>.part`, which counts as so many bytes. A
table that comes in parts (shards.remote.row_parts) is a file with holes, and counts as what is on
the disk. A folder without our marker is not used, so nothing of anybody else's is ever removed.

Locks are the system's (flock), which end with their process: a shared one on an object that a
process reads, which keeps it from being removed; one on the `.part` of who downloads it; one on the
marker while room is made. An object's time of change says when it is needed next.
"""

import errno
import os
import re
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from shards.errors import DataError, remedy
from shards.host.file_locks import unlock
from shards.remote.marked_folder import (
    MARKER,
    bytes_on_disk,
    free_bytes,
    has_name,
    names_in,
    open_marked,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OBJECT = re.compile(r"([0-9a-f]{64})(?:-([0-9]{1,19})\.part)?")
FORGOTTEN_S = 60.0  # who still needs an object says so more often than that
NEVER_S = 1e11

Outcome = Literal["there", "busy", "full"]
# Seconds until an object is needed, by its SHA-256; None of one that belongs to somebody else.
Wanted = Callable[[str], float | None]


class _Entry(NamedTuple):
    name: str
    sha256: str
    num_bytes: int  # of a part: those of the whole
    stored_bytes: int
    needed_at: float


class Part:
    """An object that this process is downloading: the only one on this machine."""

    def __init__(self, folder: "CacheFolder", sha256: str, name: str, handle: int) -> None:
        self._folder = folder
        self._sha256 = sha256
        self._name = name
        self.file: BinaryIO = os.fdopen(handle, "r+b")

    def finish(self) -> None:
        """Give the whole object its name, after it is on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self._folder.rename(self._name, self._sha256)

    def drop(self) -> None:
        """Remove what is here."""
        self._folder.remove(self._name)

    def close(self) -> None:
        """Let others continue it."""
        with suppress(OSError):  # of a full disk: what is not there is fetched again
            self.file.flush()
        unlock(self.file.fileno())
        with suppress(OSError):
            self.file.close()


class CacheFolder:
    """A folder of objects; `gigabytes` is how many they may be in all, 0 what the disk has room for."""

    def __init__(self, path: Path, gigabytes: float = 0.0) -> None:
        if fcntl is None:
            raise DataError(
                "datasets by address need locks that this system does not have: copy the set to "
                "a disk, and give its folder"
            )
        self.path = path
        self.gigabytes = gigabytes
        self.removed: deque[str] = deque()  # what made room, until somebody takes note
        self._is_crowded = False
        self._handle = open_marked(path)

    def __del__(self) -> None:
        if (handle := getattr(self, "_handle", None)) is not None:
            os.close(handle)

    def open_object(self, sha256: str) -> BinaryIO | None:
        """Open a whole object, which is not removed while it, or a map of it, is open; None where it
        is not here.
        """
        while True:
            try:
                handle = os.open(
                    sha256, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._handle
                )
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self._named(error, sha256) from None
            if self._hold(handle, sha256):
                return os.fdopen(handle, "rb")

    def has(self, sha256: str) -> bool:
        """Tell whether a whole object is here."""
        try:
            found = os.stat(sha256, dir_fd=self._handle, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode)

    def begin(
        self, sha256: str, num_bytes: int, wanted: Wanted, before: float, force: bool = False
    ) -> Part | Outcome:
        """Begin, or go on with, a download, after room was made for it.

        Objects may go that are needed later than `before`, seconds from now, and that nobody holds;
        `force` begins even without the room. There: it is here by now. Busy: another process has
        it in its hands. Full: no room.
        """
        name = f"{sha256}-{num_bytes}.part"
        with self._making_room():
            while True:
                if self.has(sha256):
                    return "there"
                handle = self._open_part(name, create=False)
                if handle is None:
                    if not self._make_room(sha256, num_bytes, wanted, before):
                        if not force:
                            return "full"
                        self._grow(num_bytes)
                    handle = self._open_part(name, create=True)
                    assert handle is not None
                if not self._lock(handle):
                    os.close(handle)
                    return "busy"
                if not has_name(
                    handle, name, self._handle
                ):  # it was finished, or removed, in between
                    os.close(handle)
                    continue
                part = Part(self, sha256, name, handle)
                if not self.has(sha256):
                    return part
                part.drop()
                part.close()

    def open_holes(self, name: str, num_bytes: int, head: bytes = b"") -> FileIO | None:
        """Open a file whose parts come one by one; it stays while it, or a map of it, is open. With
        `head`, its first bytes, it is made of that length, with holes; otherwise None if it is not
        here. Where the cache cannot be written, it is for reading alone.
        """
        while True:
            if (handle := self._open_holes(name, create=bool(head))) is None:
                return None
            if not self._hold(handle, name):
                continue
            if os.fstat(handle).st_nlink > 1:  # what it is elsewhere would be changed
                os.close(handle)
                raise DataError(f"{self.path / name}: is a link; move it away")
            try:
                if head:  # before its length: without a byte it would count as all of it
                    os.pwrite(handle, head, 0)
                    os.ftruncate(handle, num_bytes)
            except OSError as error:
                os.close(handle)
                raise self._named(error, name) from None
            return FileIO(handle, "r+" if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_RDWR else "r")

    def _hold(self, handle: int, name: str) -> bool:
        """Keep an open file in the cache; close it where it was removed in between, or is no file."""
        with suppress(OSError):  # a file system without locks: it is not removed in time
            fcntl.flock(handle, fcntl.LOCK_SH)
        found = os.fstat(handle)
        if stat.S_ISREG(found.st_mode) and found.st_nlink:
            return True
        os.close(handle)
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{self.path / name}: is no file; move it away")
        return False

    def _open_holes(self, name: str, create: bool) -> int | None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            making = os.O_CREAT if create else 0
            return os.open(name, os.O_RDWR | making | flags, 0o644, dir_fd=self._handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            if create or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise self._named(error, name) from None
        try:
            return os.open(name, os.O_RDONLY | flags, dir_fd=self._handle)
        except OSError as error:
            raise self._named(error, name) from None

    def make_room(self, name: str, num_bytes: int) -> None:
        """Make room for more bytes of a file that is here; if all else is needed, the cache grows."""
        with self._making_room():
            if not self._make_room(name, num_bytes, lambda _: None, 0.0):
                self._grow(num_bytes)

    def room(self, to_the_last: bool = False) -> int:
        """Tell how many bytes may be in the cache: as many as were given, and as the disk holds."""
        return max(0, self._room(list(self._entries()), to_the_last))

    def _room(self, entries: list[_Entry], to_the_last: bool = False) -> int:
        free, spare = free_bytes(self._handle)
        room = sum(entry.stored_bytes for entry in entries) + free
        if self.gigabytes:
            return int(min(room, self.gigabytes * 1e9))
        return room if to_the_last else room - spare

    def listed(self) -> set[str]:
        """Name the whole objects that are here."""
        return {entry.sha256 for entry in self._entries() if entry.name == entry.sha256}

    def part_bytes(self, sha256: str, num_bytes: int) -> int:
        """Count what has arrived of an object that somebody is downloading."""
        try:
            return os.stat(f"{sha256}-{num_bytes}.part", dir_fd=self._handle).st_size
        except OSError:
            return 0

    def stamp(self, sha256: str, needed_in_s: float) -> None:
        """Note when an object is needed next, for other processes."""
        at = time.time() + min(needed_in_s, 1e9)
        with suppress(OSError):  # removed, or a folder that cannot be written
            os.utime(sha256, (at, at), dir_fd=self._handle, follow_symlinks=False)

    def rename(self, old: str, new: str) -> None:
        """Rename inside the folder, for good."""
        os.rename(old, new, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        with suppress(OSError):
            os.fsync(self._handle)

    def remove(self, name: str) -> None:
        """Remove one of our files; anything else is refused."""
        if not _OBJECT.fullmatch(name):
            raise AssertionError(f"{name!r} is no object")
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._handle)

    def _grow(self, num_bytes: int) -> None:
        """Grow beyond the size, as far as the disk has room; say so once."""
        if os.statvfs(self._handle).f_flag & os.ST_RDONLY:  # what is not needed is not removed
            raise DataError(f"{self.path}: Read-only file system; choose another --cache-dir")
        if free_bytes(self._handle)[0] < num_bytes:
            raise DataError(
                f"{self.path}: its disk has no room for {num_bytes / 1e6:.3g} MB more, and "
                f"everything in it is needed; free some space or choose another --cache-dir"
            )
        if not self._is_crowded:
            self._is_crowded = True
            print(
                f"{self.path}: is full of shards that are being read: it grows beyond its size; "
                f"give a greater --cache-gb",
                file=sys.stderr,
            )

    def _lock(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise DataError(
                f"{self.path}: its file system has no locks ({error.strerror}); give --cache-dir "
                f"a folder on a disk of this machine"
            ) from None
        return True

    def _make_room(self, sha256: str, num_bytes: int, wanted: Wanted, before: float) -> bool:
        """Remove what is needed last, until there is room; the marker is locked."""
        entries = list(self._entries())
        left = self._room(entries) - sum(entry.num_bytes for entry in entries)
        if left >= num_bytes:
            return True
        now = time.time()
        last_first = sorted(
            (
                (_needed_in(entry, wanted, now), entry)
                for entry in entries
                if entry.sha256 != sha256
            ),
            reverse=True,
        )
        for needed_in, entry in last_first:
            if needed_in <= before:
                break
            if self._remove_unheld(entry):
                self.removed.append(entry.sha256)
                left += entry.num_bytes
            if left >= num_bytes:
                return True
        return False

    def _remove_unheld(self, entry: _Entry) -> bool:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(entry.name, flags, dir_fd=self._handle)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.remove(entry.name)
            return True
        except OSError:  # held, or not ours to remove
            return False
        finally:
            os.close(handle)

    def _entries(self) -> Iterator[_Entry]:
        """List our files; links, folders and everything else are not ours."""
        for name in names_in(self._handle, self.path):
            match = _OBJECT.fullmatch(name)
            if match is None:
                continue
            try:
                found = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
            except OSError:
                continue  # removed in between
            if not stat.S_ISREG(found.st_mode):
                continue
            stored = bytes_on_disk(found)
            size = max(int(match.group(2) or 0), stored)
            yield _Entry(name, match.group(1), size, stored, found.st_mtime)

    def _open_part(self, name: str, create: bool) -> int | None:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            handle = os.open(name, flags, 0o644, dir_fd=self._handle)
        except FileNotFoundError:
            if not create:
                return None
            raise
        except OSError as error:
            raise self._named(error, name) from None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(handle)
            raise DataError(f"{self.path / name}: is a link or no file; move it away")
        return handle

    @contextmanager
    def _making_room(self) -> Iterator[None]:
        """One process, and one thread of it, at a time."""
        try:
            handle = os.open(
                MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._handle
            )
        except OSError as error:
            raise self._named(error, MARKER) from None
        try:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            unlock(handle)
            os.close(handle)

    def _named(self, error: OSError, name: str) -> DataError:
        if error.errno == errno.ELOOP:
            return DataError(f"{self.path / name}: is a link; move it away")
        return DataError(
            f"{self.path / name}: {error.strerror}; {remedy(error)}, or choose another --cache-dir"
        )


def _needed_in(entry: _Entry, wanted: Wanted, now: float) -> float:
    """Tell in how many seconds somebody needs an object: by our own plan, or by what others noted.

    What nobody has said to need for a while goes first, the longest forgotten before others.
    """
    own = wanted(entry.sha256)
    if own is not None:
        return own
    left = entry.needed_at - now
    return NEVER_S - left if left < -FORGOTTEN_S else max(left, 0.0)
