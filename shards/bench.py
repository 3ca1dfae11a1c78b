"""Measure how fast a packed dataset is read here and where the time goes: `python -m shards.bench
data/voc`.
"""

from dataclasses import dataclass
from typing import Literal

from shards.choices import CACHE_DIR, CACHE_GB, Augmentation, check_location
from shards.commandline import parse, run
from shards.host.importing import slow_imports
from shards.options import check_bounds, check_idle, option


@dataclass(frozen=True)
class BenchConfig:
    """The command line."""

    data: str = option("", "packed dataset, such as data/voc or s3://bucket/voc", positional=True)
    split: str = option("train", "split to read")
    num_threads: int = option(0, "loader threads; 0 is one per core", ge=1, zero="one per core")
    cache_dir: str = option("", CACHE_DIR)
    cache_gb: float = option(0.0, CACHE_GB, ge=0)
    seconds: float = option(
        5.0, "time to read for, at most one epoch, once cold and once warm", gt=0
    )
    size: int = option(224, "side of the crops in pixels", ge=1, group="batches")
    global_batch_size: int = option(64, "samples per batch", ge=1, group="batches")
    train: bool = option(
        True,
        "random-resized crops in random order; off: centre crops in the index's order",
        group="batches",
    )
    augment: Augmentation = option(
        "crop",
        "pad: see images whole, padded and cropped, as for small images in training",
        group="batches",
    )
    pad: int = option(
        4, "pixels added on each side", ge=0, only_with=("augment", "pad"), group="batches"
    )
    cutout: int = option(
        0,
        "side in pixels of a square that is cut out of each training image; 0 cuts none",
        ge=0,
        group="batches",
    )
    cache: Literal["none", "ram"] = option(
        "none", "ram: keep decoded images in memory, as in training", group="batches"
    )
    cache_short_side: int = option(
        0,
        "shrink images to this short side first; 0 is size / 0.875",
        ge=0,
        only_with=("cache", "ram"),
        group="batches",
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        check_location(self.data, self.cache_dir, self.cache_gb)
        check_idle(self)


def main(argv: list[str] | None = None) -> None:
    """Read the command line, measure and print."""
    config = parse(
        BenchConfig,
        argv,
        prog="python -m shards.bench",
        description="Measure how fast a packed dataset is read on this machine, and where the "
        "time goes.",
        epilog="example: python -m shards.bench data/voc --num-threads 4",
    )
    with slow_imports():  # not for --help or a mistyped flag
        from shards.measuring.reading_speed import measure_reading

    measure_reading(config)


if __name__ == "__main__":
    run(main)
