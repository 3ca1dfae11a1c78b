"""What a split of 10,000 to 100 million samples costs before its first image is read.

    python benchmarks/bench_scale.py --out benchmarks/results/scale.md --plot docs/scale.png

The tables are real files of the format, without tars: rows are written for every shard, keys are
left as a hole of zeros, and no image is read. 100 million rows take 3.2 GB, removed at the end.
Each number is of a process of its own; the table has medians with the lowest and highest. Linux
alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from note import circumstances, spread, table, tell

from shards.disk.format import (
    CHECKSUM,
    ENTRIES_NAME,
    KEYS_NAME,
    ROWS_NAME,
    SHARD_DTYPE,
    SHARDS_NAME,
    digest,
    lean_row_dtype,
)
from shards.disk.tables import write_array
from shards.disk.writer import file_sha256
from shards.pages.palette import PAPER, add_legend, empty_figure, png

PACKAGES = ("numpy", "numba", "torch")
A_SHARD = 1_000  # samples
NUM_CLASSES, KEY_BYTES = 20, 12
IMAGE_BYTES = 128_000
ORDERS = ("global", "near")
WORKERS = 8
PLOTTED = {
    "1, s": "version 1: index.json",
    "open, ms": "version 2: open",
    "loader, ms (near)": "loader, near order",
    "loader, ms (global)": "loader, global order",
}
TIMED = (
    "Open: `DatasetIndex.open` with index.json, tables and hash of shards.npy, in a process that "
    "has imported shards.index; private memory is what Linux counts as RssAnon, more than before. "
    "`1, s`: the same of version 1, whose index.json lists the shards, without its look at every "
    "tar. Loader: `Loader(...)` until it could hand out batches, with its order's first batch, "
    "after its compiled code was loaded. Step: the samples of one batch of 256 of a rank, mean "
    "over 640 steps in a row. All times are CPU time of one process. Workers: private memory of "
    f"{WORKERS} processes that were forked with an open split and have looked at 10,000 rows each."
)

OPEN = """
import sys, time
from shards.index import DatasetIndex
from shards.disk.format import lean_row_dtype
def private():
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))
before, start = private(), time.process_time()
index = DatasetIndex.open(sys.argv[1])
took = time.process_time() - start
"""
CHILDREN = {
    "open": OPEN + "print(1e3 * took, private() - before)",
    "json": """
import json, sys, time
start = time.process_time()
described = json.loads(open(sys.argv[1] + "/version-1.json", "rb").read())
print(time.process_time() - start, len(described["shards"]))
""",
    "workers": OPEN
    + """
import os, numpy as np
ends = []
for worker in range(int(sys.argv[2])):
    read, write = os.pipe()
    if os.fork() == 0:
        own = private()
        ids = np.random.default_rng(worker).integers(0, index.num_samples, 10_000)
        index.labels(ids), [index.key(number) for number in ids[:100]]
        os.write(write, str(private() - own).encode())
        os._exit(0)
    os.close(write)
    ends.append(read)
print(max(float(os.read(end, 99)) for end in ends))
""",
    "loader": """
import sys, time
import numpy as np
from shards.index import DatasetIndex
from shards.loader import Loader, Order
small, path, kind = sys.argv[1:4]
warm = Loader(DatasetIndex.open(small), 256, size=32, order=Order(kind))
warm.plan.local_ids(0, 0)
index = DatasetIndex.open(path)
start = time.process_time()
loader = Loader(index, 256, size=32, order=Order(kind))
loader.plan.local_ids(0, 0)
took = time.process_time() - start
steps = range(min(640, len(loader)))
start = time.process_time()
for step in steps:
    loader.plan.local_ids(0, step)
print(1e3 * took, 1e6 * (time.process_time() - start) / len(steps))
""",
}


def child(name: str, *args: object) -> list[float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-c", CHILDREN[name], *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(value) for value in done.stdout.split()]


def write_split(root: Path, num_samples: int) -> None:
    """Write the metadata of a split of shards of 1,000 photographs."""
    root.mkdir(parents=True)
    num_shards = max(1, num_samples // A_SHARD)
    shards = np.zeros(num_shards, SHARD_DTYPE)
    shards["num_samples"] = num_samples // num_shards
    shards["bytes"] = A_SHARD * IMAGE_BYTES
    write_array(root / SHARDS_NAME, SHARD_DTYPE, num_shards, [shards])
    row = np.zeros(num_samples // num_shards, lean_row_dtype(NUM_CLASSES, 1))
    row["width"] = row["height"] = 256
    row["length"] = IMAGE_BYTES - 1024
    row["offset"][:, 0] = np.arange(len(row)) * IMAGE_BYTES + 512
    row["labels"] = np.random.default_rng(0).integers(0, 256, row["labels"].shape) & 0x11

    def rows():
        for number in range(num_shards):
            row["shard"] = number
            yield row

    write_array(root / ROWS_NAME, row.dtype, num_samples, rows())
    keys = np.dtype(f"S{KEY_BYTES}")
    write_array(root / KEYS_NAME, keys, num_samples, [])
    with open(root / KEYS_NAME, "r+b") as file:
        file.truncate((root / KEYS_NAME).stat().st_size + num_samples * KEY_BYTES)
    (root / ENTRIES_NAME).write_text('{"shards": []}\n')
    described = describe(root, num_samples, num_shards)
    (root / "index.json").write_text(json.dumps(described, ensure_ascii=False))
    write_version_1(root, described, num_shards)


def describe(root: Path, num_samples: int, num_shards: int) -> dict:
    """Make index.json."""
    names = (ROWS_NAME, KEYS_NAME, SHARDS_NAME, ENTRIES_NAME)
    described = {
        "format": "tarmac",
        "version": 2,
        "split": "train",
        "task": "multilabel",
        "class_names": [f"class-{number}" for number in range(NUM_CLASSES)],
        "num_samples": num_samples,
        "num_shards": num_shards,
        "key_bytes": KEY_BYTES,
        "image": {"members": ["jpg"], "mode": "RGB"},
        "statistics": {
            "mean": [0.5] * 3,
            "std": [0.2] * 3,
            "positives": [num_samples // 10] * NUM_CLASSES,
            "ignored": [0] * NUM_CLASSES,
            "shard_correlation": 0.0,
        },
        "command": "benchmark",
        "tables": {
            name: {"bytes": (root / name).stat().st_size, "sha256": file_sha256(root / name)}
            if name != ROWS_NAME and name != KEYS_NAME
            else {"bytes": (root / name).stat().st_size}
            for name in names
        },
    }
    return {**described, CHECKSUM: digest(described)}


def write_version_1(root: Path, described: dict, num_shards: int) -> None:
    """Write index.json as version 1 has it, with an entry for each shard."""
    entry = {
        "name": "train-000000.tar",
        "bytes": A_SHARD * IMAGE_BYTES,
        "num_samples": A_SHARD,
        "sha256": "0" * 64,
        "first_record": 0,
        "num_records": A_SHARD,
        "inputs": "0" * 64,
        "num_pixels": 10**8,
        "pixel_sum": [10**10] * 3,
        "pixel_sum_squares": [10**12] * 3,
        "rejected": [],
    }
    text = json.dumps({**described, "shards": [entry] * num_shards}, indent=1)
    (root / "version-1.json").write_text(text)


def measured(root: Path, small: Path, rounds: int) -> dict[str, list[float]]:
    """Measure one split: each figure once a round."""
    names = ["open, ms", "private, MB", "1, s", "workers, MB"]
    names += [f"{what} ({kind})" for kind in ORDERS for what in ("loader, ms", "step, us")]
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        took, private = child("open", root)
        found["open, ms"].append(took)
        found["private, MB"].append(private)
        found["1, s"].append(child("json", root)[0])
        found["workers, MB"] += child("workers", root, WORKERS)
        for kind in ORDERS:
            took, step = child("loader", small, root, kind)
            found[f"loader, ms ({kind})"].append(took)
            found[f"step, us ({kind})"].append(step)
    return found


def draw(results: dict[int, dict[str, list[float]]], path: Path) -> None:
    """Draw medians over the number of samples, both logarithmic: a PNG."""
    figure = empty_figure(PAPER, "samples", "ms", width=6.0, height=3.4)
    axes = figure.axes[0]
    colours = (PAPER.first, PAPER.second, PAPER.bad, PAPER.muted)
    for (name, label), colour in zip(PLOTTED.items(), colours, strict=True):
        factor = 1e3 if name.endswith(", s") else 1
        values = [factor * statistics.median(found[name]) for found in results.values()]
        axes.plot(list(results), values, marker="o", markersize=3, label=label, color=colour)
    axes.set(xscale="log", yscale="log")
    add_legend(axes, PAPER)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))


def note(results: dict[int, dict[str, list[float]]], rounds: int) -> str:
    """Write the table, a row for each size."""
    names = list(next(iter(results.values())))
    header = ("samples", "shards", *names)
    rows = [
        (
            f"{num:,}",
            f"{max(1, num // A_SHARD):,}",
            *(spread(found[name], 3 if name == "1, s" else 1) for name in names),
        )
        for num, found in results.items()
    ]
    lines = ["# Scale", "", *circumstances(PACKAGES), f"- {rounds} rounds", ""]
    return "\n".join([*lines, table(header, rows), "", TIMED])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [10**power for power in range(4, 9)]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="numbers of samples")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where there is room for the tables")
    parser.add_argument("--out", default="", help="also write the note here")
    parser.add_argument("--plot", default="", help="draw the plot here, a PNG")
    args = parser.parse_args(argv)
    results = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        small = Path(folder) / "small"
        write_split(small, 1_000)
        for num in args.sizes:
            root = Path(folder) / str(num)
            write_split(root, num)
            results[num] = measured(root, small, args.rounds)
            for path in root.iterdir():
                path.unlink()
    tell(note(results, args.rounds), args.out)
    if args.plot:
        draw(results, Path(args.plot))


if __name__ == "__main__":
    main()
