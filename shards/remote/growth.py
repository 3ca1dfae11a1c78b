"""Whether a download of another process brings anything: who waits for it has to know."""

import time

from shards.errors import DataError
from shards.remote import patience
from shards.remote.cache_folder import CacheFolder

LOOK_S = 0.05  # how often another process's download is looked at
SILENT_WINDOWS = 3  # of PATIENCE, in which it brings nothing


class Growth:
    """How far an object of the cache, `num_bytes` as its `.part` is named, is seen to come."""

    def __init__(self, folder: CacheFolder, sha256: str, num_bytes: int) -> None:
        self._folder = folder
        self._sha256 = sha256
        self._num_bytes = num_bytes
        self._before = -1
        self._since = time.monotonic()

    def check(self) -> None:
        """Raise DataError where nothing has come for long: its process hangs or is stopped."""
        now = time.monotonic()
        stored = self._folder.part_bytes(self._sha256, self._num_bytes)
        if stored != self._before:
            self._before = stored
            self._since = now
        if now - self._since > SILENT_WINDOWS * patience.PATIENCE.window_s:
            raise DataError(
                f"{self._folder.path / self._sha256}-{self._num_bytes}.part: another process "
                "fetches it and brings nothing: does it hang? end it, then run the same command "
                "again"
            )
