"""Measure how fast a packed dataset is read here and where the time goes: `python -m shards.bench
data/voc`. With `--simulate 8`: predict how fast 8 machines would train on it.
"""

from dataclasses import dataclass
from typing import Literal

from shards.choices import CACHE_DIR, CACHE_GB, Augmentation, check_location
from shards.commandline import parse, run
from shards.errors import DataError
from shards.host.importing import slow_imports
from shards.options import check_bounds, check_idle, declared, option, spelled

SIMULATION = "prediction"
# what is measured here, and no part of the prediction
MEASURED = ("num_threads", "seconds", "train", "cache", "cache_short_side")


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
    simulate: int = option(
        0,
        "predict how fast so many machines train on the set by address, in the order near; 0 "
        "measures here",
        ge=1,
        zero="a measurement",
        group=SIMULATION,
    )
    gpus_per_node: int = option(8, "GPUs of a machine, one rank each", ge=1, group=SIMULATION)
    images_per_gpu: float = option(2500.0, "images/s that a GPU trains on", gt=0, group=SIMULATION)
    node_cores: int = option(
        0,
        "cores of a machine; 0 is as many as here",
        ge=1,
        zero="as many as here",
        group=SIMULATION,
    )
    decode_us: float = option(
        0.0,
        "CPU time of an image in microseconds; 0 is measured here, on 256 images",
        gt=0,
        zero="a measurement",
        group=SIMULATION,
    )
    link: float = option(10.0, "link of a machine in Gbit/s", gt=0, group=SIMULATION)
    latency_ms: float = option(
        100.0, "from asking for bytes until the first arrives", ge=0, group=SIMULATION
    )
    connection_mb: float = option(
        85.0,
        "10^6 bytes a second of one connection; 0 is as fast as the link",
        gt=0,
        zero="as fast as the link",
        group=SIMULATION,
    )
    node_cache_gb: float = option(
        0.0,
        "cache of a machine in 10^9 bytes; 0 holds all of its shards",
        gt=0,
        zero="all of its shards",
        group=SIMULATION,
    )
    disk_mb: float = option(
        0.0,
        "10^6 bytes a second of a machine's disk; 0 is no limit",
        gt=0,
        zero="no limit",
        group=SIMULATION,
    )
    request_usd: float = option(0.4, "price of a million requests in USD", ge=0, group=SIMULATION)
    shuffle_groups: int = option(
        0,
        "groups of shards; 0 is 16, at most one for 16 shards",
        ge=1,
        zero="16, or one for 16 shards",
        group=SIMULATION,
    )
    shuffle_window: int = option(
        1, "shards of a group open at a time; more mix better", ge=1, group=SIMULATION
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        check_location(self.data, self.cache_dir, self.cache_gb)
        check_idle(self)
        self._check_simulation()

    def _check_simulation(self) -> None:
        """Refuse what does nothing: options of the simulation without it, and the reverse."""
        for field in declared(self):
            of_simulation = field.metadata["group"] == SIMULATION and field.name != "simulate"
            idle = field.name in MEASURED if self.simulate else of_simulation
            if idle and (given := getattr(self, field.name)) != field.default:
                remedy = "--simulate 0, to measure" if self.simulate else "--simulate NODES"
                raise DataError(
                    f"{field.name} is {spelled(given)}, but simulate is {self.simulate}: leave it "
                    f"out, or give {remedy}"
                )


def main(argv: list[str] | None = None) -> None:
    """Read the command line, measure and print."""
    config = parse(
        BenchConfig,
        argv,
        prog="python -m shards.bench",
        description="Measure how fast a packed dataset is read on this machine, and where the "
        "time goes; or predict how fast several machines would train on it (docs/scaling.md).",
        epilog="example: python -m shards.bench data/voc --num-threads 4",
    )
    with slow_imports():  # not for --help or a mistyped flag
        from shards.measuring.reading_speed import measure_reading
        from shards.measuring.simulated_nodes import simulate_nodes

    if config.simulate:
        simulate_nodes(config)
    else:
        measure_reading(config)


if __name__ == "__main__":
    run(main)
