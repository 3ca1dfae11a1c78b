"""The first batch of a set with many classes, by address: rows with their shards, or all before.

    python benchmarks/bench_rows.py --shards 64 --link-mb 40 --out benchmarks/results/rows.md

1,000 small photographs are packed as one shard; the others are the same images with rows of other
labels, under as many classes as asked for. The server is a process of its own on loopback, whose
answers are held to `--link-mb` million bytes a second in all, each 0.1 s late. Runs take turns.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_remote import served
from bench_scale import KEY_BYTES, describe
from note import circumstances, spread, table, tell

from preprocess.sources.digits import write_digits
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
    shard_name,
)
from shards.disk.tables import array_crc, write_array
from shards.disk.writer import file_sha256
from shards.index import open_split
from shards.loader import Loader
from shards.remote import split_tables

PER_SHARD = 1000
BATCH = 64
TIMED = (
    "From opening the split, with an empty cache, until the first batch of 64 in the near order is "
    "here; then until ten are. Bytes are those that the server sent by then, images among them."
)


def write_set(root: Path, num_shards: int, num_classes: int) -> None:
    """Write a split `train` of shards of 1,000 images."""
    with tempfile.TemporaryDirectory() as made:
        write_digits(Path(made) / "voc", num_train=PER_SHARD, num_val=4, size=48)
        command = [sys.executable, "-m", "preprocess.shard", "--source", "voc"]
        command += ["--root", f"{made}/voc", "--out", f"{made}/set", "--splits", "train"]
        command += ["--shard-samples", str(PER_SHARD)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        index = open_split(f"{made}/set", "train")
        tar = Path(str(index.shard_path(0))).read_bytes()
        old = np.asarray(index.samples)
    folder = root / "train"
    folder.mkdir(parents=True)
    rows = np.zeros(PER_SHARD, lean_row_dtype(num_classes, 1))
    for name in ("width", "height", "offset", "length", "crc"):
        rows[name] = old[name]
    shards = np.zeros(num_shards, SHARD_DTYPE)
    shards["num_samples"] = PER_SHARD
    rng = np.random.default_rng(0)

    def parts() -> Iterator[np.ndarray]:
        for number in range(num_shards):
            rows["shard"] = number
            rows["labels"][:, :-1] = rng.integers(0, 256, rows["labels"][:, :-1].shape)
            rows["labels"] &= rng.integers(0, 2, rows["labels"].shape, np.uint8)
            path = folder / shard_name("train", number)
            path.write_bytes(tar + bytes(512 * number))  # an end of its own: another object
            shards[number]["bytes"] = path.stat().st_size
            shards[number]["rows_crc"] = array_crc(rows)
            shards[number]["sha256"] = np.frombuffer(bytes.fromhex(file_sha256(path)), np.uint8)
            yield rows

    num_rows = num_shards * PER_SHARD
    write_array(folder / ROWS_NAME, rows.dtype, num_rows, parts())
    keys = np.arange(num_rows).astype(f"S{KEY_BYTES}")
    write_array(folder / KEYS_NAME, keys.dtype, num_rows, [keys])
    shards["keys_crc"] = [array_crc(part) for part in np.split(keys, num_shards)]
    write_array(folder / SHARDS_NAME, SHARD_DTYPE, num_shards, [shards])
    (folder / ENTRIES_NAME).write_text('{"shards": []}\n')
    told = describe(folder, num_rows, num_shards)
    told["class_names"] = [f"class-{number}" for number in range(num_classes)]
    told["statistics"]["positives"] = [num_rows // 4] * num_classes
    told["statistics"]["ignored"] = [0] * num_classes
    del told[CHECKSUM]
    (folder / INDEX_NAME).write_text(json.dumps({**told, CHECKSUM: digest(told)}))


def measured(data: Path, link_mb: float, in_parts: bool) -> dict[str, float]:
    """Measure one start with an empty cache."""
    limit = split_tables.WHOLE_BYTES
    split_tables.WHOLE_BYTES = 0 if in_parts else 1 << 60
    try:
        return _first_batches(data, link_mb)
    finally:
        split_tables.WHOLE_BYTES = limit


def _first_batches(data: Path, link_mb: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache, served(data, link_mb, 0.1) as server:
        start = time.perf_counter()
        batches = iter(
            Loader(open_split(server.url, "train", cache), BATCH, size=32, num_threads=2)
        )
        found = {}
        for number, _ in enumerate(batches, 1):
            if number in (1, 10):
                asked = server.asked()
                found[f"batch {number}, s"] = time.perf_counter() - start
                found[f"by then, MB ({number})"] = asked.num_bytes / 1e6
                found[f"requests of rows ({number})"] = asked.paths[f"train/{ROWS_NAME}"]
            if number == 10:
                break
        batches.close()
    return found


def main() -> None:
    """Measure and write the note."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--link-mb", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    ways = {"rows with their shards": True, "all rows before": False}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_set(data, args.shards, args.classes)
        size = (data / "train" / ROWS_NAME).stat().st_size
        measured(data, 0.0, True)  # loads compiled code
        results: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, in_parts in ways.items():
                results[name].append(measured(data, args.link_mb, in_parts))
    names = list(next(iter(results.values()))[0])
    rows = [
        [what, *(spread([each[what] for each in results[way]], 1) for way in ways)]
        for what in names
    ]
    lines = [
        f"# First batch of {args.shards} shards of 1,000 rows, {args.classes:,} classes: "
        f"{size / 1e6:.0f} MB of rows, a link of {args.link_mb:g} MB/s",
        "",
        *circumstances(("torch", "numpy")),
        f"- timed: {TIMED}",
        f"- n: {args.rounds} runs of each, in turns; medians with lowest and highest",
        "",
        table(["", *ways], rows),
    ]
    tell("\n".join(lines), args.out)


if __name__ == "__main__":
    main()
