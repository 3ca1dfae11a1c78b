"""Version 1 of the format, which earlier releases wrote, made of a folder of version 2."""

import json
from pathlib import Path

import numpy as np

from preprocess.packing.index_file import npy
from preprocess.packing.index_tables import full_rows, listed_entries
from preprocess.packing.resume import to_json
from shards.disk.format import (
    CHECKSUM,
    CONTENTS,
    INDEX_NAME,
    SAMPLES_NAME,
    TABLE_NAMES,
    digest,
    row_dtype,
)

OF_TABLES = ("num_shards", "key_bytes", "tables", CONTENTS, CHECKSUM)


def rows_of_version_1(root: Path) -> np.ndarray:
    """Make the rows of samples.npy of a split of version 2."""
    keys = np.load(root / "keys.npy")
    rows = full_rows(np.load(root / "rows.npy"), keys)
    dtype = row_dtype(8 * rows["labels"].shape[1], rows["offset"].shape[1], keys.dtype.itemsize)
    samples = np.zeros(len(rows), dtype)
    for name in dtype.names or ():
        samples[name] = rows[name]
    return samples


def as_version_1(root: Path) -> Path:
    """Rewrite the metadata of a split as releases before format 2 wrote it, to the byte."""
    described = json.loads((root / INDEX_NAME).read_bytes())
    samples = rows_of_version_1(root)
    old = {name: value for name, value in described.items() if name not in OF_TABLES}
    del old["statistics"]["shard_correlation"]
    old |= {"version": 1, "shards": listed_entries(root, described)}
    (root / SAMPLES_NAME).write_bytes(npy(samples))
    (root / INDEX_NAME).write_bytes(to_json({**old, CHECKSUM: digest(old)}))
    for name in TABLE_NAMES:
        (root / name).unlink()
    return root
