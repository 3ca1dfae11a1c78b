"""The tables of a set that nobody has packed, for `python -m shards.bench --simulate`: no image.

    python benchmarks/large_set.py /tmp/in21k --images 14197122 --classes 21841 --image-bytes 92000

Rows and keys are holes in files: they take no space, and hold zeros.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from bench_scale import KEY_BYTES, describe

from shards.disk.format import (
    CHECKSUM,
    ENTRIES_NAME,
    INDEX_NAME,
    KEYS_NAME,
    ROWS_NAME,
    SHARD_DTYPE,
    SHARDS_NAME,
    digest,
    lean_row_dtype,
)
from shards.disk.tables import write_array


def write_hole(path: Path, dtype: np.dtype, num_rows: int) -> None:
    """Write an array of zeros that takes no space."""
    write_array(path, dtype, num_rows, [])
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + num_rows * dtype.itemsize)


def write_large_set(root: Path, num_images: int, classes: int, per_shard: int, size: int) -> None:
    """Write a split of images of `size` bytes each."""
    root.mkdir(parents=True)
    num_shards = -(-num_images // per_shard)
    shards = np.zeros(num_shards, SHARD_DTYPE)
    shards["num_samples"] = per_shard
    shards["num_samples"][-1] = num_images - per_shard * (num_shards - 1)
    shards["bytes"] = shards["num_samples"].astype(np.int64) * size
    write_array(root / SHARDS_NAME, SHARD_DTYPE, num_shards, [shards])
    write_hole(root / ROWS_NAME, lean_row_dtype(classes, 1), num_images)
    write_hole(root / KEYS_NAME, np.dtype(f"S{KEY_BYTES}"), num_images)
    (root / ENTRIES_NAME).write_text('{"shards": []}\n')
    described = describe(root, num_images, num_shards)
    described["class_names"] = [f"class-{number}" for number in range(classes)]
    del described[CHECKSUM]
    described[CHECKSUM] = digest(described)
    (root / INDEX_NAME).write_text(json.dumps(described))


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--image-bytes", type=int, default=100_000)
    parser.add_argument("--shard-samples", type=int, default=1_000)
    args = parser.parse_args()
    where = args.folder / "train"
    write_large_set(where, args.images, args.classes, args.shard_samples, args.image_bytes)
    print(f"{where}: tables of {args.images:,} images")


if __name__ == "__main__":
    main()
