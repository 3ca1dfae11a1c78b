"""Measure one way of reading shards in this process, which does nothing else: `bench_loader.py` starts it.

Memory is proportional set size (PSS) of this process and its workers, sampled from /proc/PID/smaps_rollup. VmHWM
would miss no peak, but adding the resident sizes of forked workers counts the pages that they share several times.
Sampling costs time, so memory gets an epoch of its own after the timed ones.
"""

import importlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from shards.index import DatasetIndex

SAMPLING_SECONDS = 0.02
MB = 1e6


@dataclass(frozen=True)
class Reading:
    """What to read and how. `workers` counts threads of tarmac, processes of the others; `scale` is of the crops."""

    road: str  # tarmac, torchvision or webdataset
    workers: int
    folder: str
    size: int
    global_batch_size: int
    scale: tuple[float, float]
    epochs: int

    @property
    def name(self) -> str:
        unit = "thread" if self.road == "tarmac" else "worker process"
        plural = "es" if unit.endswith("ss") else "s"
        return f"{self.road}, {self.workers} {unit}{plural if self.workers != 1 else ''}"


def prepare(reading: Reading) -> Callable[[], Iterable[Any]]:
    """Import what a road needs; calling the result opens it, and each iteration of that is an epoch of batches."""
    if reading.road == "tarmac":
        loader = importlib.import_module("shards.loader")
        return lambda: loader.Loader(
            DatasetIndex.open(reading.folder),
            reading.global_batch_size,
            reading.size,
            num_threads=reading.workers,
            scale=tuple(reading.scale),
        )
    opener = getattr(importlib.import_module("peers"), f"{reading.road}_batches")
    settings = (reading.workers, reading.global_batch_size, reading.size, tuple(reading.scale))
    return lambda: opener(DatasetIndex.open(reading.folder), *settings)


def num_images(batch: Any) -> int:
    """Count the samples of a batch, padding aside."""
    return int(batch.valid.sum()) if hasattr(batch, "valid") else len(batch[0])


def cpu_seconds() -> float:
    """Tell the CPU time of this process and its living workers (theirs in ticks of 10 ms)."""
    workers = (child.cpu_times() for child in psutil.Process().children(recursive=True))
    return time.process_time() + sum(times.user + times.system for times in workers)


def tree_memory() -> dict[str, float]:
    """Read the PSS of this process and its workers in bytes: all of it, and what is page cache of mapped files."""
    total = {"Pss": 0.0, "Pss_File": 0.0}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # a worker that has just ended
            continue
        for line in lines:
            name = line.partition(":")[0]
            if name in total:
                total[name] += 1024 * int(line.split()[1])
    return total


class PeakMemory:
    """Sample the tree's memory from a thread for as long as the context lasts; keep the highest values in bytes."""

    def __init__(self) -> None:
        self.pss, self.own = 0.0, 0.0  # own: without pages of mapped files, which the system may take back
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            now = tree_memory()
            self.pss, self.own = max(self.pss, now["Pss"]), max(self.own, now["Pss"] - now["Pss_File"])
            if self._ended.wait(SAMPLING_SECONDS):
                return


def measure(reading: Reading) -> dict[str, float]:
    """Time the first batch, then whole epochs after a warm-up one, then watch memory over one more."""
    open_road = prepare(reading)
    idle = tree_memory()
    started = time.perf_counter()
    road = open_road()
    batches = iter(road)
    warmed = num_images(next(batches))
    first_batch = time.perf_counter() - started
    warmed += sum(map(num_images, batches))
    counted, cpu, started = 0, cpu_seconds(), time.perf_counter()
    for _ in range(reading.epochs):
        counted += sum(map(num_images, road))
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    with PeakMemory() as peak:
        watched = sum(map(num_images, road))
    if counted != warmed * reading.epochs or watched != warmed:
        raise RuntimeError(f"{reading.name}: epochs of different lengths, {warmed}, {counted} and {watched} images")
    return {
        "images": counted,
        "images_per_second": counted / seconds,
        "cpu_us": 1e6 * cpu / counted,
        "first_batch_ms": 1e3 * first_batch,
        "pss_mb": (peak.pss - idle["Pss"]) / MB,
        "own_mb": (peak.own - idle["Pss"] + idle["Pss_File"]) / MB,
        "idle_mb": idle["Pss"] / MB,
    }


def main() -> None:
    """Take a `Reading` as JSON on the command line and print what was measured as JSON."""
    torch.set_num_threads(1)  # nobody here computes with tensors
    print(json.dumps(measure(Reading(**json.loads(sys.argv[1])))))


if __name__ == "__main__":
    main()
