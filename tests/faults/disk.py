"""Fill a small disk while packing and while writing a checkpoint; then make room and go on.

One clear line, nothing half-written that looks whole, the checkpoint before it intact, the same
result in the end. The disk is a tmpfs, which only root may mount: elsewhere a row says so.
"""

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from preprocess.sources.digits import write_digits
from shards.errors import DataError
from tests.faults.launching import SMALL, pack_digits
from tests.faults.packing import check, content
from tests.faults.processes import Job
from tests.faults.report import Options, Row, run
from tests.faults.saving import read, write
from tests.faults.training import is_whole
from train.run import checkpoint

ROOMY = 200_000  # KiB
NOT_TRIED = "nothing: mounting a small disk needs root"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a tmpfs at `folder`; None where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def resize(disk: Path, kib: int) -> None:
    """Give the disk so much room; it may be less than it holds, and is then full. 0 KiB would mean
    no limit.
    """
    subprocess.run(["mount", "-o", f"remount,size={max(4, kib)}k", str(disk)], check=True)


def used_kib(disk: Path) -> int:
    return shutil.disk_usage(disk).used // 1024


def one_line(row: Row, job: Job, where: str) -> None:
    """A full disk is met with status 2 and one line that says so."""
    status, errors = (
        job.process.wait(),
        [line for line in job.output.splitlines() if line.startswith("error: ")],
    )
    row.check(status == 2 and len(errors) == 1, f"{where}: status {status}: {job.output[-300:]}")
    row.check("Traceback" not in job.output, f"{where}: a traceback")
    said = " ".join(errors).lower()
    row.check("no space left" in said or "full disk" in said, f"{where}: {said}")


def while_packing(options: Options, disk: Path) -> Row:
    row, rng = Row("packing on a full disk"), random.Random(options.seed)
    source = options.folder / "source"
    write_digits(source, num_train=120, num_val=10, size=64)
    args = ["preprocess.shard", "--source", "voc", "--root", str(source), "--splits", "train"]
    args += ["--shard-samples", "12", "--workers", "1", "--out"]
    resize(disk, ROOMY)
    Job(options.folder, *args, str(options.folder / "whole")).finish()
    Job(options.folder, *args, str(disk / "out")).finish()
    whole, needed = content(options.folder / "whole/train"), used_kib(disk)
    num_sizes = options.moments(20, 2)
    for _ in range(num_sizes):
        shutil.rmtree(disk / "out")
        size = rng.randint(8, needed - 8)
        resize(disk, size)
        one_line(row, Job(options.folder, *args, str(disk / "out")), f"{size} of {needed} KiB")
        check(row, disk / "out/train", whole, f"{size} of {needed} KiB")
        row.check(
            not list(disk.glob("out/train/*.tmp")),
            f"{size} of {needed} KiB: half-written files stay",
        )
        resize(disk, ROOMY)
        Job(options.folder, *args, str(disk / "out")).finish()
        row.check(
            content(disk / "out/train") == whole,
            f"{size} of {needed} KiB: another folder after making room",
        )
    row.tried = f"{num_sizes} disks of 8 to {needed} KiB, then room"
    return row


def while_saving(options: Options, disk: Path) -> Row:
    """Every size of disk between what one checkpoint takes and what the exchange of two does."""
    row, folder = Row("a checkpoint on a full disk"), disk / "run"
    resize(disk, ROOMY)
    write(folder, 1)
    least = used_kib(disk)
    number, step, num_full = 1, 4 * options.moments(1, 32), 0
    for size in range(least, 3 * least, step):
        resize(disk, size)
        try:
            write(folder, number + 1)
            number += 1
        except DataError as error:
            num_full += 1
            row.check(
                "could not be written" in str(error) and "is whole in" in str(error),
                f"{size} KiB: {error}",
            )
        except (OSError, RuntimeError) as error:
            row.check(False, f"{size} KiB: {type(error).__name__}: {error}")
        for name in ("last", "best"):
            row.check(read(folder / name) in (number, number + 1), f"{size} KiB: {name} is lost")
        number = read(folder / "last")
        resize(disk, ROOMY)
        write(folder, number := number + 1)
        row.check(
            sorted(path.name for path in folder.iterdir()) == ["best", "last"],
            f"{size} KiB: something stays",
        )
    row.tried = f"disks of {least} to {3 * least} KiB, {num_full} of them full"
    row.check(num_full > 0, "no disk was full")
    return row


def while_training(options: Options, disk: Path) -> Row:
    """The command: its line, its checkpoint, and the same weights after --resume on a roomier disk."""
    row, rng = Row("training on a full disk"), random.Random(options.seed)
    data = pack_digits(options.folder / "digits", num_train=32, num_val=16)
    args = [
        "train",
        "--data",
        str(data),
        *SMALL,
        "--epochs",
        "4",
        "--global-batch-size",
        "8",
        "--resume",
        "--out",
    ]
    resize(disk, ROOMY)
    Job(options.folder, *args, str(options.folder / "whole-run")).finish()
    whole = checkpoint.read(options.folder / "whole-run/last").weights()
    size_of_one = (
        sum(path.stat().st_size for path in (options.folder / "whole-run/last").iterdir()) // 1024
    )
    num_sizes = options.moments(8, 1)
    for number in range(num_sizes):
        out = disk / f"run-{number}"
        size = used_kib(disk) + rng.randint(size_of_one // 4, int(1.9 * size_of_one))
        resize(disk, size)
        one_line(row, Job(options.folder, *args, str(out)), f"{size} KiB")
        row.check(is_whole(out), f"{size} KiB: no whole checkpoint")
        resize(disk, ROOMY)
        Job(options.folder, *args, str(out)).finish()
        found = checkpoint.read(out / "last").weights()
        row.check(
            all(torch.equal(found[name], whole[name]) for name in whole),
            f"{size} KiB: other weights",
        )
        shutil.rmtree(out)
    row.tried = f"{num_sizes} disks, a checkpoint takes {size_of_one} KiB"
    return row


def experiments(options: Options) -> Iterator[Row]:
    for experiment in (while_packing, while_saving, while_training):
        with small_disk(options.folder / "disk") as disk:
            if disk is None:
                yield Row("a full disk", NOT_TRIED)
                return
            yield experiment(options, disk)


if __name__ == "__main__":
    run(experiments, __doc__ or "")
