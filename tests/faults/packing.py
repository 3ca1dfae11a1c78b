"""Kill the packer: at random moments, alone and with its worker processes, and before each of its
file operations.

A folder that opens holds exactly what an undisturbed packing wrote; the same command finishes every
other one.
"""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from preprocess.sources.digits import write_digits
from shards.dataset import ShardDataset
from shards.errors import DataError, SampleError
from shards.index import DatasetIndex
from tests.conftest import pack, write_photographs
from tests.faults.crash import dies_before
from tests.faults.processes import Job, leftovers
from tests.faults.report import Options, Row, run

NUM_IMAGES = 240


def content(root: Path) -> dict[str, bytes]:
    """Read every file of a split."""
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def check(row: Row, root: Path, whole: dict[str, bytes], where: str) -> bool:
    """Tell whether the split can be read, every sample of it; what can must be whole.

    A shard that is gone is met when it is first used.
    """
    try:
        dataset = ShardDataset(DatasetIndex.open(root))
        for number in range(len(dataset)):
            dataset[number]
    except (DataError, SampleError):
        return False
    found = content(root)
    row.check(
        {name: found.get(name) for name in whole} == whole,
        f"{where}: a folder that opens is not whole",
    )
    return True


def at_random_moments(options: Options, source: Path, workers: int) -> Row:
    """Kill, start the same command again, until it is through; then begin again, until all moments
    are used.

    A moment counts if there was still something to kill.
    """
    row = Row(f"packing, {workers} worker{'s' if workers > 1 else ''}: SIGKILL, random moments")
    rng, folder = random.Random(options.seed + workers), options.folder / f"workers-{workers}"
    args = ["preprocess.shard", "--source", "voc", "--root", str(source), "--splits", "train"]
    args += ["--shard-samples", "8", "--workers", str(workers), "--out"]
    job = Job(folder, *args, str(folder / "whole"))
    job.finish()
    duration, whole = time.monotonic() - job.started, content(folder / "whole/train")
    shared = set(os.listdir("/dev/shm"))
    num_moments, num_finished = options.moments(40, 3), 0
    root = folder / "killed/train"
    moment = 0
    while moment < num_moments:
        job = Job(folder, *args, str(folder / "killed"))
        time.sleep(rng.uniform(0, duration))
        members = job.members()
        packer = [process for process in members if process.pid == job.process.pid]
        victims = rng.choice(
            [
                packer,
                packer,
                members,
                [process for process in members if process not in packer][-1:],
            ]
        )
        job.kill(victims)
        row.lost += job.end()
        row.lost += [f"moment {moment}: {name}" for name in leftovers(folder / "tmp", shared)]
        if check(row, root, whole, f"moment {moment}"):
            num_finished += 1
            shutil.rmtree(root)
        moment += bool(victims)
    Job(folder, *args, str(folder / "killed")).finish()
    row.check(content(root) == whole, "the folder is not what an undisturbed packing writes")
    row.lost += leftovers(folder / "tmp", shared)
    row.tried = f"{num_moments} moments, {num_finished + 1} folders of {len(whole)} files finished"
    return row


def before_every_operation(options: Options) -> Row:
    """Kill before the first, second, ... file operation of packing 7 images into 4 shards."""
    row, folder = Row("packing: SIGKILL, every operation"), options.folder / "each"
    records, sizes = write_photographs(folder / "photos", 7), {"shard_samples": 2}
    pack(records, folder / "whole", **sizes)
    whole, root, operation, num_points = content(folder / "whole"), folder / "killed", 0, 0
    while dies_before(operation, root, lambda: pack(records, root, **sizes) and None):
        if root.exists():
            check(row, root, whole, f"operation {operation}")
        pack(records, root, **sizes)
        row.check(content(root) == whole, f"operation {operation}: another folder than undisturbed")
        # every second time the next packing meets a finished folder with a shard gone
        if num_points % 2:
            (root / "train-000001.tar").unlink()
        else:
            shutil.rmtree(root)
        operation, num_points = operation + options.moments(1, 9), num_points + 1
    row.tried = f"{num_points} kills before one of {operation} operations"
    return row


def experiments(options: Options) -> Iterator[Row]:
    source = options.folder / "source"
    write_digits(source, num_train=NUM_IMAGES, num_val=20, size=64)
    for workers in (1, 2):
        yield at_random_moments(options, source, workers)
    yield before_every_operation(options)


if __name__ == "__main__":
    run(experiments, __doc__ or "")
