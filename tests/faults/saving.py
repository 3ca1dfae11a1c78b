"""Kill a process that does nothing but write checkpoints: at random moments, and before each of its
file operations.

A checkpoint that can be read must be whole and the newest or the one before it; what was told to be
written is there.
"""

import os
import random
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from shards.errors import DataError
from tests.faults.crash import dies_before
from tests.faults.report import Options, Row, run
from train.config import TrainConfig
from train.run import checkpoint
from train.run.checkpoint import Meta, Progress

NUM_WEIGHTS = 20_000


def write(run_folder: Path, number: int) -> None:
    """Write checkpoint `number`, which stands in every part of it, as training does at an epoch's
    end: last, best.
    """
    meta = Meta(("a",), "multilabel", (0.1,), (0.2,), Progress(number), {"epoch": number}, {})
    weights = {f"w{part}": torch.full((NUM_WEIGHTS,), number) for part in range(4)}
    trainer = {"optimizer": torch.full((NUM_WEIGHTS,), number)}
    checkpoint.save(run_folder / "last", TrainConfig(), meta, weights, weights, trainer)
    checkpoint.copy(run_folder / "last", run_folder / "best")


def read(path: Path) -> int:
    """Read a checkpoint; tell the number that every part of it holds. Raises DataError where one is
    not whole.
    """
    opened = checkpoint.read(path)
    number = opened.meta.progress.epoch
    parts = [
        *opened.weights().values(),
        *opened.weights(averaged=True).values(),
        opened.trainer()["optimizer"],
    ]
    if len(parts) != 9 or any(part.tolist() != [number] * NUM_WEIGHTS for part in parts):
        raise DataError(f"{path}: its parts are not of one checkpoint")
    return number


def check(row: Row, run_folder: Path, written: int, where: str) -> None:
    """See that `last` and `best` are whole, and at least what was told to be written."""
    for name in ("last", "best"):
        try:
            found = read(run_folder / name) if checkpoint.exists(run_folder / name) else 0
        except (DataError, OSError) as error:
            row.check(False, f"{where}: {error}")
        else:
            row.check(
                written <= found <= written + 1,
                f"{where}: {name} is {found}, {written} was written",
            )


def at_random_moments(options: Options) -> Row:
    """Kill the writer after as many seconds as 0 to 4 checkpoints take, and start it again on what
    is there.
    """
    row, rng = Row("checkpoint writing: SIGKILL, random moments"), random.Random(options.seed)
    run_folder, number = options.folder / "random", 0
    started = time.monotonic()
    for number in range(1, 6):
        write(run_folder, number)
    duration = (time.monotonic() - started) / 5
    num_moments = options.moments(200, 20)
    for moment in range(num_moments):
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            while True:
                number += 1
                write(run_folder, number)
                os.write(tell, b".")
        time.sleep(rng.uniform(0, 4) * duration)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(tell)
        number += len(os.read(told, 10_000)) if select.select([told], [], [], 0)[0] else 0
        os.close(told)
        check(row, run_folder, number, f"moment {moment}")
        write(run_folder, number + 1)
        number += 1
        row.check(
            sorted(os.listdir(run_folder)) == ["best", "last"],
            f"moment {moment}: {os.listdir(run_folder)}",
        )
    row.tried = f"{num_moments} moments, {number} checkpoints of last and best"
    return row


def before_every_operation(options: Options) -> Row:
    """Kill before the first, second, ... file operation, with and without what an earlier kill left
    behind.
    """
    row, run_folder = Row("checkpoint writing: SIGKILL, every operation"), options.folder / "each"
    step, num_points = options.moments(1, 4), 0
    for second in (None, *range(0, 60, 10 * step)):  # a second kill while going on after the first
        number, operation = 1, 0
        write(run_folder, number)
        while dies_before(
            operation, run_folder, lambda number=number: write(run_folder, number + 1)
        ):
            check(row, run_folder, number, f"operation {operation}")
            if second is not None:
                dies_before(second, run_folder, lambda number=number: write(run_folder, number + 1))
                check(row, run_folder, number, f"operations {operation} and {second}")
            write(run_folder, number + 1)
            check(row, run_folder, number + 1, f"after operation {operation}")
            left = sorted(os.listdir(run_folder))
            row.check(left == ["best", "last"], f"operation {operation}: {left} stay")
            number, operation, num_points = number + 1, operation + step, num_points + 1
    row.tried = f"{num_points} kills before one of {operation} operations, or two of them"
    return row


def experiments(options: Options) -> Iterator[Row]:
    yield at_random_moments(options)
    yield before_every_operation(options)


if __name__ == "__main__":
    run(experiments, __doc__ or "")
