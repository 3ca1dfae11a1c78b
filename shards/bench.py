"""Tell how fast a packed dataset is read here and where the time goes: `python -m shards.bench data/voc`."""

from dataclasses import dataclass
from typing import Literal

from shards.choices import Augmentation
from shards.commandline import option, parse, run
from shards.errors import DataError


@dataclass(frozen=True)
class BenchConfig:
    """The command line."""

    data: str = option("", "packed dataset, such as data/voc", positional=True)
    split: str = option("train", "split to read")
    size: int = option(224, "side of the crops in pixels")
    global_batch_size: int = option(64, "samples per batch")
    num_threads: int = option(0, "loader threads; 0 is one per core")
    train: bool = option(True, "random-resized crops in random order; off: centre crops in the index's order")
    augment: Augmentation = option("crop", "pad: see images whole, padded and cropped, as for small images in training")
    pad: int = option(4, "augment pad: pixels added on each side")
    cutout: int = option(0, "side in pixels of a square that is cut out of each training image; 0 cuts none")
    cache: Literal["none", "ram"] = option("none", "ram: keep decoded images in memory, as in training")
    cache_short_side: int = option(0, "cache ram: shrink images to this short side first; 0 is size / 0.875")
    seconds: float = option(5.0, "time to read for, at most one epoch, once cold and once warm")

    def __post_init__(self) -> None:
        if self.num_threads < 0:
            raise DataError(f"num_threads is {self.num_threads}: give at least 1, or 0 for one per core")
        if not self.seconds > 0:
            raise DataError(f"seconds is {self.seconds}: give a number above 0")


def main(argv: list[str] | None = None) -> None:
    """Read the command line, measure and print."""
    config = parse(
        BenchConfig,
        argv,
        prog="python -m shards.bench",
        description="Measure how fast a packed dataset is read on this machine, and where the time goes.",
        epilog="example: python -m shards.bench data/voc --num-threads 4",
    )
    from shards.measuring.reading_speed import measure_reading  # seconds of imports: not for --help or a mistyped flag

    measure_reading(config)


if __name__ == "__main__":
    run(main)
