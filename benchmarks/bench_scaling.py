"""What the loader costs besides decoding, what threads lose to processes, how soon an epoch starts.

    python benchmarks/bench_scaling.py data/voc --workers 2 --out benchmarks/results/scaling.md

Rounds take turns between the ways of reading; figures are medians over rounds with the lowest and
highest. Linux alone.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from note import circumstances, num_cores, ratios, spread, table, tell

from shards.decode.decoder import Decoder
from shards.index import open_split
from shards.loader import Loader
from shards.order.permutation import shuffled
from shards.pipeline.batch_maker import BatchMaker
from shards.sampler import GlobalPlan, World

PACKAGES = ("torch", "simplejpeg", "opencv-python-headless", "numba", "numpy")
TIMED = (
    "Reading: whole epochs after one to warm up; `processes` are as many ranks of one thread each, "
    "started together, `threads` one rank with so many. Stubbed: the same loader whose batches are "
    "made without cutting, decoding and resizing, so what is left is the order, the crop boxes, "
    "labels, slots, the hand-over and the Python of the per-image loop; it is all under the GIL, "
    "so it is the most that one process can hand out on any number of cores. Epoch start: from "
    "`iter(loader)` to the first batch of a later epoch, and of that the order alone, for splits "
    "of other sizes. First batch: in a fresh process, from after the imports, with numba's "
    "compiled code on disk."
)


class BlindDecoder(Decoder):
    """Look at no image."""

    def crop_into(self, *_: Any) -> None:
        pass


class BlindMaker(BatchMaker):
    """Make batches without looking at an image."""

    decoder_class = BlindDecoder


def rate(loader: Loader, epochs: int) -> float:
    """Read whole epochs: images/s."""
    start = time.perf_counter()
    images = sum(int(batch.valid.sum()) for _ in range(epochs) for batch in loader)
    return images / (time.perf_counter() - start)


def stubbed(loader: Loader, epochs: int) -> float:
    """Read whole epochs without looking at an image: images/s."""
    loader.maker = BlindMaker(loader.maker.index, loader.maker.plan, loader.maker.view)
    rate(loader, 1)
    return rate(loader, epochs)


def child(data: str, rank: int, num_ranks: int, epochs: int) -> None:
    """Read as one of several ranks: wait for a line, read, print the seconds and the first batch's
    delay.
    """
    index = open_split(data, "train")
    start = time.perf_counter()
    loader = Loader(index, 64 * num_ranks, num_threads=1, world=World(rank, num_ranks))
    next(iter(loader))
    first = time.perf_counter() - start
    rate(loader, 1)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    rate(loader, epochs)
    print(json.dumps([time.perf_counter() - start, first]), flush=True)


def processes(data: str, num: int, epochs: int, num_samples: int) -> tuple[float, float]:
    """Read with `num` ranks at once: images/s of all together, and the first batch's delay in s."""
    command = [sys.executable, __file__, data, "--epochs", str(epochs), "--child"]
    children = [
        subprocess.Popen(
            [*command, f"{rank}/{num}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for rank in range(num)
    ]
    for one in children:
        assert one.stdout is not None
        one.stdout.readline()
    for one in children:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    told = [json.loads(one.communicate()[0]) for one in children]
    return epochs * num_samples / max(seconds for seconds, _ in told), max(
        first for _, first in told
    )


def median_ms(what: Callable[[], Any], repeats: int = 9) -> str:
    """Time something."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        what()
        seconds.append(1e3 * (time.perf_counter() - start))
    return spread(seconds, 2)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="packed dataset, such as data/voc")
    parser.add_argument(
        "--workers", type=int, default=num_cores(), help="threads, or processes, to read with"
    )
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="", help="also write the note here")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        rank, num_ranks = map(int, args.child.split("/"))
        return child(args.data, rank, num_ranks, args.epochs)
    index, n = open_split(args.data, "train"), args.workers
    loader = Loader(index, 64, num_threads=n)
    rate(loader, 1)
    rows: dict[str, list[float]] = {
        name: [] for name in ("threads", "processes", "blind 1", "blind n", "first")
    }
    for _ in range(args.rounds):
        rows["threads"].append(rate(loader, args.epochs))
        total, first = processes(args.data, n, args.epochs, index.num_samples)
        rows["processes"].append(total)
        rows["first"].append(1e3 * first)
        rows["blind 1"].append(stubbed(Loader(index, 64, num_threads=1), 20))
        rows["blind n"].append(stubbed(Loader(index, 64, num_threads=n), 20))
    lines = [
        (f"images/s, 1 process of {n} threads", spread(rows["threads"])),
        (f"images/s, {n} processes of 1 thread", spread(rows["processes"])),
        ("threads / processes", spread(ratios(rows["threads"], rows["processes"]), 2)),
        ("images/s with decoding stubbed, 1 thread", spread(rows["blind 1"])),
        (f"images/s with decoding stubbed, {n} threads", spread(rows["blind n"])),
        ("first batch of a process, ms", spread(rows["first"])),
        ("epoch start, ms", median_ms(lambda: next(iter(loader)))),
    ]
    for num in (10**4, 10**6, 10**8):
        plan = GlobalPlan(num, 64, 0, World(), shuffle=True)
        lines.append(
            (
                f"order of a batch of 64 of {num:,} samples, ms",
                median_ms(partial(plan.global_ids, 1, 3)),
            )
        )
    positions = np.arange(10**6)
    lines.append(
        ("order of 1,000,000 positions, ms", median_ms(lambda: shuffled(positions, 10**6, 0, 1), 3))
    )
    text = [
        "# Scaling",
        "",
        *circumstances(PACKAGES),
        f"- data: {Path(args.data).name}/train; {args.rounds} rounds",
        "",
    ]
    tell(
        "\n".join([*text, table(("what", "median (lowest..highest)"), lines), "", TIMED]), args.out
    )
    return None


if __name__ == "__main__":
    main()
