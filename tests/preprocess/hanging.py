"""Records whose reading never ends, or ends the process that does it, and odd tasks: importable by
worker processes.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from preprocess.images.geometry import ImageOptions
from preprocess.images.image import pack_image
from preprocess.packing.pool import Pool, Result
from preprocess.record import Record
from shards.errors import DataError


@dataclass(frozen=True)
class Hanging(Record):
    """As on a file system that no longer answers."""

    def read(self) -> bytes:
        threading.Event().wait()
        return b""


@dataclass(frozen=True)
class Failing(Record):
    """As of a source whose author made a mistake, or with too little memory."""

    error: type[Exception] = Exception

    def read(self) -> bytes:
        raise self.error("by the record")


@dataclass(frozen=True)
class Killing(Record):
    """As by the kernel for lack of memory, once the folder `after` holds a finished shard."""

    after: Path | None = None

    def read(self) -> bytes:
        while self.after is not None and not any(self.after.glob("*.tar")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        return b""


def large(num_bytes: int) -> bytes:
    """More than a pipe holds."""
    return bytes(num_bytes)


def complain(text: str) -> None:
    raise DataError(text)


class Unsendable:
    """What cannot be pickled."""

    def __init__(self, task: int) -> None:
        self.lock = threading.Lock()


def pack_images(pool: Pool, records: list[Record]) -> Iterator[Result]:
    """Pack the records' images, each for itself."""
    return pool.images(partial(pack_image, options=ImageOptions()), records)
