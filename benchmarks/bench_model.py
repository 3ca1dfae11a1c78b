"""The prediction of docs/scaling.md beside measurements: each part of a machine made the slowest.

    python benchmarks/bench_model.py data/voc --out benchmarks/results/model.md

The set should have at least 100 shards (pack with --shard-samples), so that the first of them, which
nothing overlaps, are few. Rounds measure all cases in turns.
"""

import argparse
import dataclasses
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path

from bench_remote import served
from note import circumstances, spread, table, tell

from shards.bench import BenchConfig
from shards.host.compiled import compiled
from shards.index import DatasetIndex, open_split
from shards.loader import Loader
from shards.measuring.simulated_nodes import bytes_of_shards, decode_time
from shards.measuring.throughput import (
    FETCH_S_A_BYTE,
    FETCH_S_A_REQUEST,
    NodeParts,
    NodeShare,
    part_limits,
    slowest,
)
from shards.remote.fetch_ahead import DOWNLOADS

PACKAGES = ("torch", "numpy", "numba")
SPIN_S = 0.3
SHORT = 4  # times the epochs, of a case without waiting
SPIN_TURNS = 1_000_000
TIMED = (
    "Images/s from asking for the first batch of the epochs until having the last one. What the "
    "prediction is given is measured or set by itself: the bytes of the shards, the link's rate and "
    "the delay of the server, the time that the consumer sleeps for a batch, the CPU time of an "
    "image (one thread, 256 images, once, before each case), and the cores: the CPU time that a busy loop "
    "of as many threads gets, before and after each case, as others use this machine too. The cache "
    "has room for half of the set, and its case measures the epochs after the first. Fetching: CPU "
    "time of this process while it brings every shard into an empty cache, by their bytes."
)


@compiled(nogil=True)
def _spin(turns: int) -> int:
    state = 1
    for _ in range(turns):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
    return state


def cores_here(num_threads: int) -> float:
    """Count the cores that so many busy threads get just now."""
    _spin(1)
    ends_at = time.perf_counter() + SPIN_S

    def work() -> None:
        while time.perf_counter() < ends_at:
            _spin(SPIN_TURNS)

    threads = [threading.Thread(target=work) for _ in range(num_threads)]
    started = time.perf_counter()
    cpu = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.process_time() - cpu) / (time.perf_counter() - started)


def read_epochs(loader: Loader, epochs: range, step_s: float = 0.0) -> float:
    """Read epochs: images/s; the consumer takes `step_s` for each batch, as a GPU's step would."""
    images = 0
    started = time.perf_counter()
    for epoch in epochs:
        loader.set_epoch(epoch)
        for batch in loader:
            images += int(batch.valid.sum())
            del batch
            time.sleep(step_s)
    return images / (time.perf_counter() - started)


class Cases:
    """The parts of this machine, each made the slowest in turn; every case gives (parts, share,
    measured).
    """

    def __init__(self, args: argparse.Namespace, folder: str) -> None:
        self.args = args
        self.folder = folder
        self.number = count()
        self.near = open_split(args.data, args.split)
        self.num_bytes = float(bytes_of_shards(self.near).sum())
        self.share = NodeShare(self.near.num_samples, self.num_bytes, len(self.near.shards), 0.0)

    def loader(self, index: DatasetIndex) -> Loader:
        args = self.args
        return Loader(
            index, args.global_batch_size, args.size, num_threads=args.threads, order="near"
        )

    def parts(self) -> NodeParts:
        """Measure what every case needs to know of this machine."""
        config = BenchConfig(data=str(self.args.data), split=self.args.split, size=self.args.size)
        cores = cores_here(self.args.threads)
        return NodeParts(cores, decode_time(self.near, config), num_downloads=DOWNLOADS)

    def decoding(self) -> tuple[NodeParts, NodeShare, float]:
        """Read a folder, as fast as it goes."""
        parts = self.parts()
        epochs = range(SHORT * self.args.epochs)
        return parts, self.share, read_epochs(self.loader(self.near), epochs)

    def gpu(self) -> tuple[NodeParts, NodeShare, float]:
        """Read a folder; the consumer is slower."""
        size = self.args.global_batch_size
        parts = dataclasses.replace(self.parts(), gpu_images_per_s=self.args.gpu_images)
        loader = self.loader(self.near)
        run = read_epochs(loader, range(self.args.epochs), size / self.args.gpu_images)
        return parts, self.share, run

    def link(self) -> tuple[NodeParts, NodeShare, float]:
        """Fetch everything over a slow link."""
        link = self.args.link_mb
        parts = dataclasses.replace(self.parts(), link_bytes_per_s=1e6 * link)
        return parts, self._fetched(1.0), self._by_address(link, 0.0)

    def requests(self) -> tuple[NodeParts, NodeShare, float]:
        """Fetch everything from a server that takes its time to answer."""
        parts = dataclasses.replace(self.parts(), latency_s=self.args.delay_s)
        return parts, self._fetched(1.0), self._by_address(0.0, self.args.delay_s)

    def cache(self) -> tuple[NodeParts, NodeShare, float]:
        """Fetch over the slow link what half a cache has not, after the first epoch."""
        link = self.args.link_mb
        parts = dataclasses.replace(self.parts(), link_bytes_per_s=1e6 * link)
        return parts, self._fetched(0.5), self._by_address(link, 0.0, 0.5)

    def fetching(self) -> float:
        """Fetch everything as fast as it goes, and read nothing: CPU seconds a byte."""
        with served(self.args.data, 0.0) as server:
            index = open_split(server.url, self.args.split, f"{self.folder}/{next(self.number)}")
            cpu = time.process_time()
            for number in range(len(index.shards)):
                index.open_shard(number).close()
            return (time.process_time() - cpu) / self.share.num_bytes

    def _fetched(self, part: float) -> NodeShare:
        return dataclasses.replace(self.share, fetched=part)

    def _by_address(self, link_mb: float, delay_s: float, cached: float = 0.0) -> float:
        """Read an epoch by address with an empty cache, or later ones with one of a part."""
        folder = f"{self.folder}/{next(self.number)}"
        with served(self.args.data, link_mb, delay_s) as server:
            index = open_split(server.url, self.args.split, folder)
            if not cached:
                return read_epochs(self.loader(index), range(1))
            tables = sum(path.stat().st_size for path in Path(folder).iterdir())
            limit = (cached * self.num_bytes + tables) / 1e9
            index = open_split(server.url, self.args.split, folder, limit)
            loader = self.loader(index)
            read_epochs(loader, range(1))
            return read_epochs(loader, range(1, 1 + self.args.epochs))


def measure_cases(cases: Cases, rounds: int) -> list[list[str]]:
    """Take turns; predict each with the mean of what cores were free before and after."""
    named: dict[str, Callable[[], tuple[NodeParts, NodeShare, float]]] = {
        "decoding (a folder)": cases.decoding,
        "link (an empty cache)": cases.link,
        "requests (answered late)": cases.requests,
        "link (half in the cache)": cases.cache,
        "GPU (a step that sleeps)": cases.gpu,
    }
    found = defaultdict(list)
    fetching = []
    for _ in range(rounds):
        for name, case in named.items():
            parts, share, images_per_s = case()
            cores = (parts.cores + cores_here(cases.args.threads)) / 2
            limits = part_limits(dataclasses.replace(parts, cores=cores), share)
            part = slowest(limits)
            found[name].append((limits[part], images_per_s, part))
        fetching.append(1e9 * cases.fetching())
    rows = []
    for name, each in found.items():
        predicted = [one[0] for one in each]
        measured = [one[1] for one in each]
        errors = [after / before for before, after in zip(predicted, measured, strict=True)]
        decided = statistics.mode(one[2] for one in each)
        cells = [spread(predicted), spread(measured), spread(errors, 2)]
        rows.append([name, decided, *cells])
    shards = cases.share.requests / cases.share.num_bytes
    expected = 1e9 * (FETCH_S_A_BYTE + shards * FETCH_S_A_REQUEST)
    errors = spread([each / expected for each in fetching], 2)
    name = "fetching, ns of CPU a byte"
    rows.append([name, "", f"{expected:.1f}", spread(fetching, 1), errors])
    return rows


def main() -> None:
    """Measure and write the note."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="packed dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--global-batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--link-mb", type=float, default=10.0, help="10^6 bytes a second")
    parser.add_argument("--delay-s", type=float, default=0.2, help="of each answer")
    parser.add_argument("--gpu-images", type=float, default=200.0, help="a second")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="", help="file for the note")
    args = parser.parse_args()
    lines = circumstances(PACKAGES)
    # threads that fetch ahead may outlive their loader by a second
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cases = Cases(args, folder)
        cases.loader(cases.near).warm_up()
        rows = measure_cases(cases, args.rounds)
    text = [
        "# Predicted and measured images/s",
        "",
        *lines,
        f"- data: {args.data.name}/{args.split}, {cases.near.num_samples} images in "
        f"{len(cases.near.shards)} shards, batches of {args.global_batch_size} at {args.size} "
        f"pixels, {args.threads} threads; a link of {args.link_mb:g} MB/s, answers after "
        f"{args.delay_s:g} s, a GPU of {args.gpu_images:g} images/s; medians of {args.rounds} "
        f"rounds with lowest and highest",
        "",
        table(["slowest by design", "predicted slowest", "predicted", "measured", "ratio"], rows),
        "",
        TIMED,
    ]
    tell("\n".join(text), args.out)


if __name__ == "__main__":
    main()
