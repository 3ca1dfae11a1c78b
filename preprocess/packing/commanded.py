"""Pack a split in the way that the command line asks for, and say what was done."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from preprocess.packing.local_engine import LocalEngine
from preprocess.packing.pack import (
    Engine,
    Packing,
    Proof,
    TaskReport,
    finalize,
    pack_split,
    pack_task,
)
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import Pool
from preprocess.packing.resume import is_intact, is_of
from shards.disk.format import REJECTED_NAME
from shards.errors import DataError, count_of
from shards.remote.address import Address

if TYPE_CHECKING:
    from preprocess.packing.split_by_address import SplitByAddress

EngineKind = Literal["local", "ray"]
Task = tuple[int, int]  # its index, and the number of tasks


@contextmanager
def open_engine(kind: EngineKind, address: str, pool: Pool) -> Iterator[Engine]:
    """Start what makes shards, and end it afterwards."""
    if kind == "local":
        yield LocalEngine(pool)
        return
    from preprocess.packing.ray_engine import RayEngine

    engine = RayEngine(address, pool.workers)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def packing_folder(where: Path | Address, split: str) -> Iterator[Path]:
    """Lend the folder of a split of dataset `where`; of an address one that stands for it here."""
    if isinstance(where, Path):
        yield where / split
        return
    with tempfile.TemporaryDirectory(prefix="tarmac-pack-") as folder:
        root = Path(folder, split)
        root.mkdir()
        yield root


def pack_as_asked(
    job: Job,
    where: Path | Address,
    root: Path,
    pool: Pool,
    engine: Engine,
    task: Task | None,
    finish: bool,
) -> str:
    """Pack a whole split of dataset `where`, or the shards of a task, or finish what tasks have
    packed; return a line about it. `root` is its `packing_folder`.
    """
    if isinstance(where, Path):
        return _packed_line(job, root, root, pool, engine, task, finish, is_intact)
    from preprocess.packing.split_by_address import SendingEngine, SplitByAddress

    split = SplitByAddress(where / job.split, root)
    try:
        split.bring(with_rows=task is None)
        sending = SendingEngine(engine, split)
        line = _packed_line(job, root, split.address, pool, sending, task, finish, is_of)
        split.finish()
    except DataError as error:
        _send_rejects(split)
        raise DataError(str(error).replace(str(root), str(split.address))) from error
    return line


def _send_rejects(split: "SplitByAddress") -> None:
    """Put the list that a message names where it says."""
    if (split.root / REJECTED_NAME).exists():
        split.send_lists()


def _packed_line(
    job: Job,
    root: Path,
    shown: Path | Address,
    pool: Pool,
    engine: Engine,
    task: Task | None,
    finish: bool,
    proof: Proof,
) -> str:
    started = time.perf_counter()
    if task is not None:
        return _task_line(shown, pack_task(job, root, pool, *task, engine, proof), *task)
    packed = finalize(job, root, pool) if finish else pack_split(job, root, pool, engine, proof)
    return _packing_line(shown, packed, time.perf_counter() - started)


def _task_line(root: Path | Address, report: TaskReport, index: int, num_tasks: int) -> str:
    written = report.num_shards - report.num_kept
    rejected = f", {count_of(report.num_rejected, 'image')} rejected" if report.num_rejected else ""
    if report.num_there == report.num_planned:
        rest = "all shards are there: the same command with --finalize writes the index"
    else:
        rest = f"{report.num_there} of {count_of(report.num_planned, 'shard')} are there"
    return (
        f"{root}: task {index} of {num_tasks}: {count_of(written, 'shard')} written, "
        f"{report.num_kept} "
        f"verified and kept{rejected}; {rest}"
    )


def _packing_line(root: Path | Address, packing: Packing, seconds: float) -> str:
    written = packing.num_shards - packing.num_kept
    rate = ""
    if written == packing.num_shards:
        rate = f", {packing.num_samples / seconds:.0f} images/s"
    damaged = (
        f", {count_of(packing.num_accepted, 'damaged image')} accepted"
        if packing.num_accepted
        else ""
    )
    return (
        f"{root}: {count_of(packing.num_samples, 'sample')} in "
        f"{count_of(packing.num_shards, 'shard')}, "
        f"{packing.num_bytes / 1e6:.1f} MB; {written} written, {packing.num_kept} "
        f"{'verified and ' if packing.is_verified else ''}kept, "
        f"{count_of(packing.num_rejected, 'image')} "
        f"rejected{damaged} ({seconds:.1f} s{rate})"
    )
