"""A user's own source whose images take their time, and may end the process that reads them."""

import os
import signal
import time
from dataclasses import dataclass

from preprocess.record import Record
from tests.preprocess.two_classes import TwoClasses

NAME = f"{__name__}:SlowSource"
DELAY_S = 0.02


@dataclass(frozen=True)
class SlowRecord(Record):
    """Beside a file of its name with the suffix .dies it ends its process as the kernel does for
    lack of memory; if the suffix is .dies-once, only the first time.
    """

    def read(self) -> bytes:
        time.sleep(DELAY_S)
        once = self.path.with_suffix(".dies-once")
        if once.exists() or self.path.with_suffix(".dies").exists():
            once.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read()


class SlowSource(TwoClasses):
    """Every JPEG of a folder, slowly."""

    record = SlowRecord
