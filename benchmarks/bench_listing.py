"""Time and memory of planning a packing of millions of images, by a source that invents them.

    python -m benchmarks.bench_listing --records 10000000

Listed in parts of 100,000 by two processes, put in packing order, cut into shards; the records of
some shards are then read back as an engine would. No image is looked at.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from preprocess.images.geometry import ImageOptions
from preprocess.packing.listing import list_in_parallel
from preprocess.packing.packing_plan import Job, PackedPart, in_packing_order, plan_part
from preprocess.packing.pool import open_pool
from preprocess.record import Record, Source

PER_PART = 100_000
PER_SHARD = 4_000
NUM_CLASSES = 1_000


class InventedSource(Source):
    """Images in a folder per class, as ImageNet has them."""

    class_names = tuple(f"class-{number}" for number in range(NUM_CLASSES))

    def __init__(self, num_records: int) -> None:
        self.num_records = num_records

    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def parts(self, split: str) -> list[int]:
        return list(range(0, self.num_records, PER_PART))

    def list_part(self, split: str, part: int) -> Iterator[Record]:
        for number in range(part, min(part + PER_PART, self.num_records)):
            label = number * NUM_CLASSES // self.num_records
            name = f"n{label:08d}_{number}"
            source = f"class-{label}/{name}.JPEG"
            yield Record(name, Path("/data/set", source), source, (label,), ())

    def records(self, split: str) -> list[Record]:
        return [record for part in self.parts(split) for record in self.list_part(split, part)]


def peak_mb() -> int:
    """Return what this process has held at most, its file mappings included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    before = peak_mb()
    started = time.perf_counter()
    with open_pool(given.workers) as pool:
        records = list_in_parallel(InventedSource(given.records), "train", pool)
        listed = time.perf_counter()
        workers = [psutil.Process(worker.process.pid) for worker in pool.started]
        cpu_s = sum(sum(worker.cpu_times()[:2]) for worker in workers)
        worker_mb = max((worker.memory_info().rss >> 20 for worker in workers), default=0)
        job = Job("train", InventedSource.class_names, records, ImageOptions(), 1, PER_SHARD, 0, "")
        ordered, identity = in_packing_order(job)
        plan = plan_part(job, [PackedPart(identity, "")], 0, ordered, pool)
        planned = time.perf_counter()
        shards = [
            plan.task(number) for number in list(plan.numbers)[:: max(1, len(plan.numbers) // 10)]
        ]
        num_read = sum(len(task.records) for task in shards)
        read = time.perf_counter()
    print(
        f"{given.records:,} records, {len(plan.numbers):,} shards: listed in "
        f"{listed - started:.1f} s, ordered and cut in {planned - listed:.1f} s, "
        f"{(read - planned) / num_read * 1e6:.1f} us a record to read back; CPU here "
        f"{time.process_time():.1f} s, in workers {cpu_s:.1f} s; "
        f"memory {before} MB before, {peak_mb()} MB at most, a worker {worker_mb} MB"
    )


if __name__ == "__main__":
    main()
