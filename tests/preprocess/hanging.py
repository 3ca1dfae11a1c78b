"""Records whose reading never ends, or ends the process that does it: importable by worker processes."""

import os
import signal
import threading
from dataclasses import dataclass

from preprocess.record import Record


@dataclass(frozen=True)
class Hanging(Record):
    """As on a file system that no longer answers."""

    def read(self) -> bytes:
        threading.Event().wait()
        return b""


@dataclass(frozen=True)
class Killing(Record):
    """As by the kernel for lack of memory."""

    def read(self) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""
