"""A file of the cache whose parts come one by one: what is in it, and who is bringing what."""

import errno
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO

from shards.remote import patience

try:
    import fcntl
except ImportError:  # Windows, where no cache is opened
    fcntl = None  # type: ignore[assignment]

# Locks of bytes that belong to an open file: of Linux. Elsewhere processes fetch each for itself.
OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
READ_BYTES = 1 << 20
LOOK_S = 0.05  # how often another process's lock is looked at
SILENT_WINDOWS = 3  # of PATIENCE, after which it is not waited for any more


class PartFile:
    """The open file. Threads may share it; it has no position.

    It is read, not mapped, as long as it may be a hole: on tmpfs a map of a hole takes space, and
    ends the process if there is none.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._process = os.getpid()

    @property
    def is_writable(self) -> bool:
        """Tell whether parts can be written."""
        return self._file.writable()

    def crc(self, start: int, stop: int) -> int | None:
        """Compute the CRC-32 of some bytes; None where they are a hole, or beyond its end."""
        handle = self._file.fileno()
        if _is_hole(handle, start, stop):
            return None
        crc = 0
        while start < stop:
            data = os.pread(handle, min(READ_BYTES, stop - start), start)
            if not data:
                return None
            crc = zlib.crc32(data, crc)
            start += len(data)
        return crc

    def write(self, data: bytearray, at: int) -> None:
        """Write all of some bytes. Raises OSError."""
        left = memoryview(data)
        while len(left):
            written = os.pwrite(self._file.fileno(), left, at)
            at += written
            left = left[written:]

    @contextmanager
    def locked(self, start: int, stop: int) -> Iterator[None]:
        """Lock some bytes, so that another process does not fetch them too.

        The lock ends with its process. One that is stopped, or hangs, is not waited for for ever:
        who fetches the same bytes writes the same bytes.
        """
        until = time.monotonic() + SILENT_WINDOWS * patience.PATIENCE.window_s
        while not self._lock(fcntl.F_WRLCK, start, stop) and time.monotonic() < until:
            time.sleep(LOOK_S)
        try:
            yield
        finally:
            self._lock(fcntl.F_UNLCK, start, stop)

    def after_fork(self) -> None:
        """Open the file again in a process of its own, whose locks are its own then."""
        if self._process != os.getpid():
            self._process = os.getpid()
            with suppress(OSError):  # not Linux
                path = f"/proc/self/fd/{self._file.fileno()}"
                flags = os.O_CLOEXEC | (os.O_RDWR if self.is_writable else os.O_RDONLY)
                self._file = FileIO(os.open(path, flags), self._file.mode)

    def _lock(self, kind: int, start: int, stop: int) -> bool:
        """Lock bytes, or unlock them; False where another process has some."""
        if OFD_SETLK is None:
            return True
        flock = struct.pack("hhqqi", kind, os.SEEK_SET, start, stop - start, 0)
        try:
            fcntl.fcntl(self._file, OFD_SETLK, flock)
        except OSError as error:  # others: a file system without locks
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        return True


def _is_hole(handle: int, start: int, stop: int) -> bool:
    """Tell whether nothing was ever written to some bytes: then they need not be read."""
    try:
        return os.lseek(handle, start, os.SEEK_DATA) >= stop
    except OSError as error:
        return error.errno == errno.ENXIO  # nothing behind
    except AttributeError:  # a system that does not say
        return False
