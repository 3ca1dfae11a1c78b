"""The run folder: configuration, metrics, checkpoints. Nothing in it is ever overwritten by another
run.
"""

import itertools
import json
import os
from pathlib import Path
from typing import IO, Any

from shards.disk.format import write_atomically
from shards.errors import DataError
from shards.host.file_locks import unlock

try:
    import fcntl
except ImportError:  # Windows: runs are not guarded against each other there
    fcntl = None  # type: ignore[assignment]

METRICS_NAME = "metrics.jsonl"
BAD_SAMPLES_NAME = "bad_samples.jsonl"
CONFIG_NAME = "config.yaml"
LOCK_NAME = ".lock"
TOKEN_PREFIX = ".shared-"  # of files that other ranks look for (train.run.shared_folder)


class RunFolder:
    """Paths and records of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last"
        self.best = path / "best"
        self._lock: IO[str] | None = None

    def begin(self, config_yaml: str, resume: bool = False) -> Path | None:
        """Make an empty folder; one that is there already is moved aside, and its new path
        returned.

        With `resume` one of the same configuration is begun again where it is, if it never came to a
        checkpoint.
        """
        aside = None
        had_checkpoint = self.last.exists() or self.best.exists()
        if resume and not had_checkpoint and self._config() == config_yaml.encode():
            self.lock()
            (self.path / METRICS_NAME).unlink(missing_ok=True)
            return None
        # all that a start killed at once leaves behind
        beginnings = {LOCK_NAME, CONFIG_NAME + ".tmp"}
        if self.path.exists() and any(
            not (child.name in beginnings or child.name.startswith(TOKEN_PREFIX))
            for child in self.path.iterdir()
        ):
            if not (self.path / CONFIG_NAME).exists():
                raise DataError(f"{self.path}: holds files that are no run; choose another --out")
            self.lock()
            numbered = (
                self.path.with_name(f"{self.path.name}.{number}") for number in itertools.count(1)
            )
            aside = next(path for path in numbered if not path.exists())
            os.rename(self.path, aside)
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        write_atomically(self.path / CONFIG_NAME, config_yaml.encode())
        return aside

    def _config(self) -> bytes | None:
        """Read the configuration of the run that is here: as bytes, which somebody may have edited."""
        path = self.path / CONFIG_NAME
        return path.read_bytes() if path.is_file() else None

    def lock(self) -> None:
        """Hold the folder until `unlock` or the end of this process. Raises DataError where another
        holds it.
        """
        if fcntl is None:
            return
        self._lock = open(self.path / LOCK_NAME, "w")  # noqa: SIM115 (held until `unlock`)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"{self.path}: another process trains into it; end that one or give another --out"
            ) from error

    def unlock(self) -> None:
        """Let the folder go, for a later run of this process: the garbage collector may take its
        time.
        """
        if self._lock is not None and not self._lock.closed:
            unlock(self._lock.fileno())
            self._lock.close()

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add an epoch's line to metrics.jsonl."""
        _append(self.path / METRICS_NAME, values)

    def note_bad_sample(self, values: dict[str, Any]) -> bool:
        """Add a sample to bad_samples.jsonl; return whether it is new there, by split and key."""
        path = self.path / BAD_SAMPLES_NAME
        place = (values["split"], values["key"])
        if any((line["split"], line["key"]) == place for line in read_lines(path)):
            return False
        _append(path, values)
        return True

    def forget_metrics_after(self, epoch: int) -> None:
        """Drop the lines of epochs that are about to be run again (lines count epochs from 1)."""
        lines = [line for line in read_metrics(self.path) if line["epoch"] <= epoch]
        write_atomically(
            self.path / METRICS_NAME, "".join(json.dumps(line) + "\n" for line in lines).encode()
        )


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read a run's metrics.jsonl, one mapping per epoch."""
    return read_lines(run / METRICS_NAME)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, none where it is not there; a line cut short by a crash is left
    out.
    """
    lines = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return lines


def _append(path: Path, values: dict[str, Any]) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(values) + "\n")
        file.flush()
        os.fsync(file.fileno())
