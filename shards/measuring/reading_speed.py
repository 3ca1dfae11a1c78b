"""Measure how fast a packed dataset is read and where the time goes: what `python -m shards.bench`
prints.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from tqdm import tqdm

from shards.bench import BenchConfig
from shards.choices import CROP_SHARE
from shards.errors import count_of
from shards.host.machine import num_cores
from shards.index import DatasetIndex, open_split
from shards.loader import Cache, Loader, View
from shards.measuring.stages import STAGES, stage_times
from shards.pipeline.decoded_cache import bounded

MB = 1e6
GB = 1e9
ROWS_SEEN = 1000  # of a large set by address


@dataclass(frozen=True)
class Pass:
    """One reading of some batches."""

    steps: int
    images: int
    seconds: float
    cpu_seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    @property
    def cpu_us(self) -> float:
        return 1e6 * self.cpu_seconds / self.images


def read_batches(loader: Loader, enough: Callable[[int, float], bool], what: str) -> Pass:
    """Read the first batches of epoch 0 until `enough(steps, seconds)`."""
    loader.set_epoch(0)
    images = 0
    steps = 0
    cpu = time.process_time()
    start = time.perf_counter()
    batches = iter(loader)
    for batch in tqdm(
        batches, total=len(loader), desc=what, unit="batch", leave=False, disable=None
    ):
        images += int(batch.valid.sum())
        steps += 1
        del batch
        seconds = time.perf_counter() - start
        if enough(steps, seconds):
            break
    batches.close()
    return Pass(steps, images, seconds, time.process_time() - cpu)


def memory() -> tuple[float, float]:
    """Tell this process's resident memory in bytes: its own, and what is mapped (page cache, shared
    memory).
    """
    info = psutil.Process().memory_info()
    mapped = getattr(info, "shared", 0)
    return info.rss - mapped, mapped


def seen_rows(index: DatasetIndex) -> np.ndarray:
    """Return all rows, or the first of those that come part by part, which are fetched."""
    rows = index.samples
    return rows if isinstance(rows, np.ndarray) else rows[:ROWS_SEEN]


def advice(config: BenchConfig, loader: Loader, warm: Pass, stages: dict[str, float]) -> str:
    """Say in one sentence what limits and what to change."""
    threads = loader.num_threads
    cores = num_cores()
    samples = seen_rows(loader.index)
    busy = warm.cpu_seconds / (warm.seconds * min(threads, cores))
    if threads < cores and busy > 0.8:
        return (
            f"The loader's threads are busy, and only {threads} of {count_of(cores, 'core')} are "
            "used: raise --num-threads."
        )
    if busy < 0.7:
        return (
            f"The threads wait {1 - busy:.0%} of the time, for storage or for cores that others "
            "use: use a faster disk or a quieter machine."
        )
    first, second = sorted(stages, key=lambda name: -stages[name])[:2]
    limit = (
        f"The processor limits, most of it in {first} ({stages[first]:.0f} us) and {second} "
        f"({stages[second]:.0f} us)"
    )
    if config.cache == "ram" and config.augment == "pad":
        return f"{limit}: more cores help, or --cache device in training, if it has a GPU."
    if config.cache == "ram":
        return f"{limit}: only fewer pixels help, a smaller --cache-short-side or --size, or more cores."
    short_side = config.cache_short_side or round(config.size / CROP_SHARE)
    widths, heights = bounded(samples["width"], samples["height"], short_side)
    if config.augment == "pad":
        widths = heights = np.full(len(samples), config.size)
    pixels = float((widths * heights).mean()) * loader.index.num_samples
    num_bytes = loader.index.num_channels * pixels
    needed = num_bytes / GB
    available = psutil.virtual_memory().available / GB
    smaller = ""
    if np.minimum(samples["width"], samples["height"]).mean() > 1.2 * short_side:
        smaller = f"pack with --short-side {short_side}, or "
    if needed < available / 2:
        return f"{limit}: {smaller}keep the images in memory with --cache ram ({needed:.2f} GB)."
    return f"{limit}: {smaller}use more cores."


def measure_reading(config: BenchConfig) -> None:
    """Do what `python -m shards.bench` was asked for."""
    torch.set_num_threads(1)
    index = open_split(config.data, config.split, config.cache_dir, config.cache_gb)
    own_before, mapped_before = memory()
    started = time.perf_counter()
    loader = Loader(
        index,
        config.global_batch_size,
        num_threads=config.num_threads,
        view=View(
            config.size, config.train, augment=config.augment, pad=config.pad, cutout=config.cutout
        ),
        cache=Cache(config.cache, config.cache_short_side),
    )
    next(iter(loader))
    first_batch = time.perf_counter() - started
    cold = read_batches(loader, lambda _, seconds: seconds > config.seconds, "first pass")
    warm = read_batches(loader, lambda steps, _: steps >= cold.steps, "second pass")
    own, mapped = memory()
    stages = stage_times(loader, min(cold.steps, 16))
    print(
        f"{index.root}: {count_of(index.num_samples, 'image')}, "
        f"{seen_rows(index)['length'].mean() / 1e3:.0f} kB "
        f"each on average"
    )
    print(
        f"batches of {config.global_batch_size} at {count_of(config.size, 'pixel')}, "
        f"{count_of(loader.num_threads, 'thread')}, "
        f"{count_of(num_cores(), 'core')}\n"
    )
    print(f"first batch  {1e3 * first_batch:8.0f} ms")
    for name, one in (("first pass ", cold), ("second pass", warm)):
        print(
            f"{name}  {one.images_per_second:8.0f} images/s, {one.cpu_us:.0f} us of CPU an image, "
            f"{count_of(one.images, 'image')}"
        )
    print(
        f"memory       {(own - own_before) / MB:8.0f} MB of its own, "
        f"{(mapped - mapped_before) / MB:.0f} MB mapped\n"
    )
    print("us of CPU an image, one thread alone:")
    for name, meaning in STAGES.items():
        print(f"{name:11s}  {stages[name]:8.1f}  {meaning}")
    print(f"\n{advice(config, loader, warm, stages)}")
