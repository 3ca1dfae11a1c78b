"""A user's own source whose reading stops where a test wants: what is killed then is killed while
it packs.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from preprocess.record import Record
from tests.preprocess.two_classes import TwoClasses

NAME = f"{__name__}:WaitingSource"


@dataclass(frozen=True)
class Waiting(Record):
    """Reading it does not end while there is a file of its name with the suffix .wait."""

    def read(self) -> bytes:
        if self.path.with_suffix(".wait").exists():
            self.path.with_suffix(".reached").touch()
        while self.path.with_suffix(".wait").exists():
            time.sleep(0.01)
        return super().read()


class WaitingSource(TwoClasses):
    """Every JPEG of a folder, when it may be read."""

    record = Waiting


def hold(*images: Path) -> None:
    """Let the reading of these images wait."""
    for image in images:
        image.with_suffix(".reached").unlink(missing_ok=True)
        image.with_suffix(".wait").touch()


def wait_until_reached(process: subprocess.Popen, *images: Path) -> None:
    """Wait until all of these images are being read."""
    while not all(image.with_suffix(".reached").exists() for image in images):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def let_go(*images: Path) -> None:
    """Let their reading end."""
    for image in images:
        image.with_suffix(".wait").unlink()
