"""Tarmac: packed by its own command, read by its own loader."""

import subprocess
import sys
from pathlib import Path

from reading import SPLIT, Reading

from shards.index import DatasetIndex
from shards.loader import Loader


def prepare(root: Path, out: Path, variant: str) -> None:
    """Pack as a user does."""
    command = [sys.executable, "-m", "preprocess.shard", "--source", "voc", "--splits", SPLIT]
    subprocess.run([*command, "--root", str(root), "--out", str(out)], check=True)


def batches(reading: Reading) -> Loader:
    """Open the split that `prepare` packed, or any other."""
    data = Path(reading.data)
    index = DatasetIndex.open(str(data if (data / "index.json").exists() else data / SPLIT))
    return Loader(
        index,
        reading.global_batch_size,
        reading.size,
        num_threads=reading.workers,
        scale=reading.scale,
    )
