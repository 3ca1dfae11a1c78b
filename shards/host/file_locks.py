"""Locks on open files (flock)."""

from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def unlock(handle: int) -> None:
    """Give a lock on a file back (flock), for good.

    To close the file is not enough: a process that was forked meanwhile has it open, too, and with
    it the lock, for as long as it is there.
    """
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_UN)
