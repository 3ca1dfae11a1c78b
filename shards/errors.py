"""What can be wrong with a user's data. Commands print these as one line and leave with status 2."""

import errno

__all__ = ["DamagedError", "DataError", "FormatError", "SampleError"]

_REMEDIES = {  # where the operating system refuses a path that a flag named or led to
    errno.ENOENT: "check its spelling, or choose another path",
    errno.ENOTDIR: "a file is where a folder is needed: move it, or choose another path",
    errno.EISDIR: "a folder is where a file is needed: move it, or choose another path",
    errno.EEXIST: "move it away, or choose another path",
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ESTALE: "its network disk no longer knows it: mount it again, then run the same command again",
    errno.EMFILE: "raise the limit of open files with `ulimit -n`",
    errno.EIO: "the disk or network below it fails: check it, then run the same command again",
}


class DataError(ValueError):
    """The data or the request cannot be used: the message names the value, the file, the key and
    the remedy.
    """


class FormatError(DataError):
    """A dataset on disk is not what its index says, or is of a version this code does not read."""


class SampleError(DataError):
    """One sample cannot be read or decoded; the message names shard and key."""


class DamagedError(SampleError):
    """A sample has lost pixels, though it can be decoded."""


def remedy(error: OSError) -> str:
    """Say what to do where the operating system refuses a path."""
    return _REMEDIES.get(error.errno or 0, "check this path")


def one_line(error: BaseException) -> str:
    """Spell an exception for a message: its text without line breaks, or its type where it has
    none.
    """
    return " ".join(str(error).split()) or type(error).__name__


def count_of(num: int, one: str, several: str = "") -> str:
    """Spell a count with its noun: `1 image`, `1,234 images`, `2 classes`. A count from a damaged
    file may be anything.
    """
    ending = "es" if one.endswith(("s", "x", "ch", "sh")) else "s"
    spelled = f"{num:,}" if isinstance(num, int) else str(num)
    return f"{spelled} {one if num == 1 else several or one + ending}"
