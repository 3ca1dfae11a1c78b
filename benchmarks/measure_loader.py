"""Measure one road in this process, which does nothing else: `rounds.py` starts it.

Memory is proportional set size (PSS) of this process and its workers, sampled from
/proc/PID/smaps_rollup. VmHWM would miss no peak, but adding the resident sizes of forked workers
counts the pages that they share several times. Sampling costs time, so memory gets an epoch of its
own after the timed ones.
"""

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import torch
from reading import Reading

SAMPLING_SECONDS = 0.02
MB = 1e6


def num_images(batch: Any) -> int:
    """Count the samples of a batch, padding aside."""
    return int(batch.valid.sum()) if hasattr(batch, "valid") else len(batch[0])


def check(batch: Any, reading: Reading) -> float:
    """Raise RuntimeError unless a batch is what every road has to deliver; return how many labels
    are set in it.
    """
    images, labels = (
        (batch.images, batch.labels[batch.valid]) if hasattr(batch, "valid") else batch[:2]
    )
    shape = (len(images), 3, reading.size, reading.size)
    if images.shape != shape or images.dtype != torch.uint8 or labels.dtype != torch.float32:
        raise RuntimeError(
            f"{reading.name}: {images.dtype} {tuple(images.shape)}, {labels.dtype} labels"
        )
    if tuple(labels.shape) != (num_images(batch), reading.num_classes):
        raise RuntimeError(f"{reading.name}: labels of shape {tuple(labels.shape)}")
    return float(labels.sum())


def cpu_seconds() -> float:
    """Tell the CPU time of this process, its workers and the workers that have ended (theirs in
    ticks of 10 ms).
    """
    ended = os.times()
    total = time.process_time() + ended.children_user + ended.children_system
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def tree_memory() -> dict[str, float]:
    """Read the PSS of this process and its workers in bytes: all of it, and what is page cache of
    mapped files.
    """
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
    """Sample the tree's memory from a thread for as long as the context lasts; keep the highest
    values in bytes.
    """

    def __init__(self) -> None:
        # own: without pages of mapped files, which the system may take back
        self.pss, self.own = 0.0, 0.0
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
            self.pss, self.own = (
                max(self.pss, now["Pss"]),
                max(self.own, now["Pss"] - now["Pss_File"]),
            )
            if self._ended.wait(SAMPLING_SECONDS):
                return


def time_epochs(road: Iterable[Any], reading: Reading) -> tuple[int, int, float, float]:
    """Read whole epochs until there are enough: (epochs, images, seconds, CPU seconds)."""
    epochs, images, cpu, started = 0, 0, cpu_seconds(), time.perf_counter()
    while epochs < reading.epochs or time.perf_counter() - started < reading.seconds:
        images += sum(map(num_images, road))
        epochs += 1
    return epochs, images, time.perf_counter() - started, cpu_seconds() - cpu


def measure(reading: Reading) -> dict[str, float]:
    """Time the first batch, then whole epochs after a warm-up one, then watch memory over one more."""
    idle = tree_memory()  # torch is imported, nothing else
    open_road = importlib.import_module(f"roads.{reading.module}").batches
    started = time.perf_counter()
    road = open_road(reading)
    batches = iter(road)
    first = next(batches)
    first_batch = time.perf_counter() - started
    warmed, labels = num_images(first), check(first, reading)
    del first
    for batch in batches:
        warmed, labels = warmed + num_images(batch), labels + check(batch, reading)
        del batch
    epochs, counted, seconds, cpu = time_epochs(road, reading)
    with PeakMemory() as peak:
        watched = sum(map(num_images, road))
    if counted != warmed * epochs or watched != warmed:
        raise RuntimeError(
            f"{reading.name}: epochs of different lengths, {warmed}, {counted} / {epochs} and "
            f"{watched}"
        )
    return {
        "images": warmed,
        "labels": labels,
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
    print(json.dumps(measure(Reading.from_json(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
