"""Batches from a server on loopback: warm beside the folder, cold beside the link.

    python benchmarks/bench_remote.py data/voc --link-mb 40 --out benchmarks/results/remote.md

The server is a process of its own whose answers are held to `--link-mb` million bytes a second in
all. Rounds take turns between the folder and a full cache. With `--root VOCdevkit/VOC2012` the peers
that read from servers are measured, too; `--work` keeps their environments and data.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from far_peers import ABOUT, PEERS, peers_table
from note import circumstances, ratios, spread, table, tell
from object_server import ObjectServer

from shards.index import DatasetIndex, open_split
from shards.loader import Loader

PACKAGES = ("torch", "numpy", "fsspec")
TIMED = (
    "Warm: whole epochs, from asking for the first batch to having the last, in turns with the "
    "folder, after one of each to warm up; CPU time is of this process. Cold: from opening the "
    "split, with an empty cache, until its last shard has arrived and been checked; the link's "
    "share is the time that the bytes of the shards take on it, divided by that. First batch: from "
    "opening the split, with an empty cache; `in order` is validation, `shuffled` training, "
    "`resumed` the same in the middle of an epoch; requests of ranges are those made by then. All "
    "training here is in the near order, from the folder too. The server is on the same machine "
    "and takes some of its cores."
)


class Asked(NamedTuple):
    """What a server was asked for so far: requests by path, how many of ranges, and its bytes."""

    paths: dict[str, int]
    num_ranges: int
    num_bytes: int


def _serve(folder: Path, bytes_per_s: float, delay_s: float, pipe: Connection) -> None:
    with ObjectServer(folder, bytes_per_s, delay_s=delay_s) as server:
        pipe.send(server.url)
        while pipe.recv() == "asked":
            pipe.send(
                Asked(
                    dict(server.asked),
                    server.asked.total() - server.wholes.total(),
                    server.num_sent,
                )
            )


class Served:
    """A server in a process of its own."""

    def __init__(self, url: str, pipe: Connection) -> None:
        self.url = url
        self._pipe = pipe

    def asked(self) -> Asked:
        """Tell what it was asked for so far."""
        self._pipe.send("asked")
        found: Asked = self._pipe.recv()
        return found


@contextmanager
def served(folder: Path, megabytes_per_s: float, delay_s: float = 0.0) -> Iterator[Served]:
    """Serve a folder over a link of so many million bytes a second; 0 is as fast as it goes. Each
    request is answered after `delay_s`.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(folder, 1e6 * megabytes_per_s, delay_s, theirs), daemon=True
    )
    process.start()
    try:
        yield Served(ours.recv(), ours)
    finally:
        ours.send("stop")
        process.join()


def epoch(loader: Loader) -> tuple[float, float]:
    """Read an epoch: images a second, and microseconds of CPU an image."""
    loader.set_epoch(0)
    started = time.perf_counter()
    cpu = time.process_time()
    images = sum(int(batch.valid.sum()) for batch in loader)
    seconds = time.perf_counter() - started
    return images / seconds, 1e6 * (time.process_time() - cpu) / images


def make_loader(index: DatasetIndex, args: argparse.Namespace, train: bool = True) -> Loader:
    return Loader(
        index,
        args.global_batch_size,
        args.size,
        train=train,
        num_threads=args.threads,
        order="near",
    )


def warm_rows(args: argparse.Namespace, cache: str) -> list[list[str]]:
    """Measure the folder and a full cache in turns."""
    with served(args.data, 0) as server:
        near = make_loader(open_split(args.data, args.split), args)
        far = make_loader(open_split(server.url, args.split, cache), args)
        epoch(near)
        epoch(far)
        rounds = []
        for number in range(args.rounds):
            both = [near, far] if number % 2 == 0 else [far, near]
            found = {id(each): epoch(each) for each in both}
            rounds.append((found[id(near)], found[id(far)]))
    rows = []
    for place, unit in ((0, "images/s"), (1, "us of CPU an image")):
        local = [one[place] for one, _ in rounds]
        warm = [other[place] for _, other in rounds]
        share = spread([100 * each for each in ratios(warm, local)], 1)
        rows.append([f"warm, {unit}", spread(local), spread(warm), f"{share} %"])
    return rows


def cold_row(args: argparse.Namespace, folder: str) -> list[list[str]]:
    """Fill caches over the link while an epoch is read."""
    times = []
    with served(args.data, args.link_mb) as server:
        for number in range(args.rounds):
            started = time.perf_counter()
            index = open_split(server.url, args.split, f"{folder}/cold-{number}")
            loader = make_loader(index, args, train=False)
            batches = iter(loader)
            next(batches)
            assert index.remote is not None
            names = {shard.sha256 for shard in index.shards}
            while not names <= index.remote.folder.listed():
                if next(batches, None) is None:
                    break
                time.sleep(0.001)
            times.append(time.perf_counter() - started)
    num_bytes = sum(shard.num_bytes for shard in index.shards)
    least = num_bytes / (1e6 * args.link_mb)
    share = spread([100 * least / each for each in times], 1)
    return [
        [
            "cold, s until all shards are here",
            f"{least:.2f} (the link)",
            spread(times, 2),
            f"{share} %",
        ]
    ]


def first_rows(args: argparse.Namespace, folder: str) -> list[list[str]]:
    """Time the first batch with an empty cache, and count what was asked for."""
    rows = []
    for name in ("in order", "shuffled", "resumed"):
        local, opened, there = [], [], []
        for number in range(args.rounds):
            near = open_split(args.data, args.split)
            local.append(1e3 * first_batch(near, args, name, time.perf_counter()))
            with served(args.data, args.link_mb, args.delay_ms / 1e3) as server:
                started = time.perf_counter()
                far = open_split(server.url, args.split, f"{folder}/first-{name}-{number}")
                opened.append(1e3 * (time.perf_counter() - started))
                num_opening = sum(server.asked().paths.values())
                there.append(1e3 * first_batch(far, args, name, started))
                asked = server.asked()
        transfer = image_bytes(near, args, name) / args.link_mb / 1e3
        rows.append(
            [
                f"first batch {name}, ms",
                spread(local),
                spread(there),
                f"images {transfer:.0f} ms of the link; open {spread(opened)}, {num_opening} "
                f"requests; {asked.num_ranges} of ranges",
            ]
        )
    return rows


def first_loader(index: DatasetIndex, args: argparse.Namespace, name: str) -> Loader:
    """Make the loader of one of the ways to start; `resumed` is in the middle of an epoch."""
    loader = make_loader(index, args, name != "in order")
    if name == "resumed":
        loader.load_state_dict({**loader.state_dict(), "epoch": 3, "step": len(loader) // 2})
    return loader


def image_bytes(index: DatasetIndex, args: argparse.Namespace, name: str) -> int:
    """Count the bytes of the images of the first batch."""
    loader = first_loader(index, args, name)
    state = loader.state_dict()
    ids = loader.plan.global_ids(state["epoch"], state["step"])
    return int(index.samples["length"][ids].sum())


def first_batch(index: DatasetIndex, args: argparse.Namespace, name: str, started: float) -> float:
    """Read one batch; tell how long that took from when `started`."""
    batches = iter(first_loader(index, args, name))
    next(batches)
    seconds = time.perf_counter() - started
    batches.close()
    return seconds


def main() -> None:
    """Measure and write the note."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="packed dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--global-batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--link-mb", type=float, default=40.0, help="10^6 bytes a second")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, help="VOC folder, to measure the peers on it, too")
    parser.add_argument("--peers", default=",".join(PEERS), help="separated by commas")
    parser.add_argument("--work", type=Path, default=Path("/tmp/peers"), help="as bench_peers has")
    parser.add_argument("--out", default="", help="file for the note")
    args = parser.parse_args()
    args.peers = args.peers.split(",")
    lines = circumstances(PACKAGES)
    make_loader(open_split(args.data, args.split), args).warm_up()
    with tempfile.TemporaryDirectory() as folder:
        rows = warm_rows(args, f"{folder}/warm")
        rows += cold_row(args, folder)
        rows += first_rows(args, folder)
        peers = ["", peers_table(args, Path(folder)), "", ABOUT] if args.root else []
    text = [
        "# Shards from a server on loopback",
        "",
        *lines,
        f"- data: {args.data.name}/{args.split}, batches of {args.global_batch_size} at {args.size} "
        f"pixels, {args.threads} threads, a link of {args.link_mb:g} MB/s, answers "
        f"{args.delay_ms:g} ms late when first batches are timed; medians of "
        f"{args.rounds} rounds with lowest and highest",
        "",
        table(["", "folder", "by address", "share"], rows),
        "",
        TIMED,
        *peers,
    ]
    tell("\n".join(text), args.out)


if __name__ == "__main__":
    main()
