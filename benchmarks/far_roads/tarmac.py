"""Tarmac: shards by address, in the order near."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from far_reading import Place

from shards.index import open_split
from shards.loader import Loader
from shards.sampler import World

SHARD_MB = 4
SMALLEST = 8  # pixels, where nothing needs to be decoded


def prepare(root: Path, out: Path) -> None:
    """Pack the photographs."""
    command = [sys.executable, "-m", "preprocess.shard", "--source", "voc", "--root", str(root)]
    command += ["--out", str(out), "--shard-mb", str(SHARD_MB), "--splits", "train"]
    subprocess.run(command, check=True)


class Reader:
    """Batches of one rank."""

    def __init__(self, place: Place) -> None:
        gigabytes = place.cache_bytes / 1e9
        index = open_split(place.url, "train", place.cache, gigabytes)
        self._loader = Loader(
            index,
            place.global_batch_size,
            place.size or SMALLEST,
            world=World(place.rank, place.num_ranks, place.num_ranks),
            num_threads=place.workers,
        )

    def epoch(self, number: int) -> Iterator[list[str]]:
        """Read the rest of an epoch, or the whole of it."""
        if self._loader.state_dict()["epoch"] != number:
            self._loader.set_epoch(number)
        for batch in self._loader:
            yield [self._loader.index.key(each) for each in batch.ids[batch.valid].tolist()]

    def state(self) -> Any:
        return self._loader.state_dict()

    def load(self, state: Any) -> None:
        self._loader.load_state_dict(state)
