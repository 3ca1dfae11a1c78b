"""Whether all ranks see the run folder that the first one writes to: on several machines it must
be on a file system that they share.
"""

import contextlib
import os
import secrets
import socket
import time
from pathlib import Path

import psutil

from shards.errors import DataError
from train.run.folder import TOKEN_PREFIX
from train.run.ranks import chosen_by_first, join_ranks, said_by_all

LOCAL_KINDS = frozenset(
    {"apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)
# So long a file may take to be seen: an NFS client may believe for a minute that it is not there.
LOCAL_S = 3.0
NETWORK_S = 75.0
LOOK_AGAIN_S = 0.1
NUM_NAMED = 3  # ranks that do not see it


def check_shared(path: Path) -> None:
    """Let the first rank write a file there and all others find it. Joins the ranks.

    Raises DataError, on all ranks, where one does not find it. Where the first rank cannot write,
    nothing is looked for: `RunFolder.begin` says why.
    """
    if join_ranks() == 1:
        return
    left: list[_Token] = []  # of the first rank alone

    def leave(_: object) -> str:
        left.append(_Token(path))
        return left[0].name

    name = chosen_by_first(leave)
    try:
        blind = [who for who in said_by_all(_missed_by(path, name)) if who]
    finally:
        for token in left:
            token.remove()
    if blind:
        raise DataError(
            f"{path}: this run folder is not shared: {', '.join(blind[:NUM_NAMED])}"
            f"{', ...' if len(blind) > NUM_NAMED else ''} cannot see what the first rank writes "
            f"there; give an --out on a file system that all machines have under this path"
        )


class _Token:
    """An empty file in a folder; `name` is empty where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.name = f"{TOKEN_PREFIX}{secrets.token_hex(8)}"
        self._path = path
        self._made = [each for each in (path, *path.parents) if not each.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / self.name).touch()
        except OSError:
            self.remove()
            self.name = ""

    def remove(self) -> None:
        """Remove the file, and the folders that were made for it."""
        with contextlib.suppress(OSError):
            (self._path / self.name).unlink(missing_ok=True)
        for each in self._made:
            with contextlib.suppress(OSError):  # somebody has put something there
                each.rmdir()


def _missed_by(path: Path, name: str) -> str:
    """Wait for the file; return who does not see it, empty where it is seen."""
    ends = time.monotonic() + (LOCAL_S if _kind(path) in LOCAL_KINDS else NETWORK_S)
    while name and not _is_listed(path, name):
        if time.monotonic() > ends:
            return f"rank {os.environ.get('RANK', '?')} on {socket.gethostname()}"
        time.sleep(LOOK_AGAIN_S)
    return ""


def _is_listed(path: Path, name: str) -> bool:
    for parent in reversed(path.parents[:2]):
        with contextlib.suppress(OSError):
            os.scandir(parent).close()  # opening a folder makes NFS ask for what has changed
    try:
        return name in os.listdir(path)
    except OSError:
        return False


def _kind(path: Path) -> str:
    """Name the kind of file system that a path is on, or will be."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    inside = str(place.resolve()).rstrip("/") + "/"
    mounts = [
        (each.mountpoint.rstrip("/") + "/", each.fstype)
        for each in psutil.disk_partitions(all=True)
    ]
    at = [mount for mount in mounts if inside.startswith(mount[0])]
    return max(at, key=lambda mount: len(mount[0]), default=("", ""))[1]
