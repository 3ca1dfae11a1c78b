"""Pack a split in the way that the command line asks for, and say what was done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from preprocess.packing.local_engine import LocalEngine
from preprocess.packing.pack import Engine, Packing, TaskReport, finalize, pack_split, pack_task
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import Pool

EngineKind = Literal["local", "ray"]


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


def pack_as_asked(
    job: Job, root: Path, pool: Pool, engine: Engine, task: tuple[int, int] | None, finish: bool
) -> str:
    """Pack a whole split, or the shards of a task (index, number of tasks), or finish what tasks
    have packed; return a line about it.
    """
    started = time.perf_counter()
    if task is not None:
        return _task_line(root, pack_task(job, root, pool, *task, engine), *task)
    packing = finalize(job, root, pool) if finish else pack_split(job, root, pool, engine)
    return _packing_line(root, packing, time.perf_counter() - started)


def _task_line(root: Path, report: TaskReport, index: int, num_tasks: int) -> str:
    written = report.num_shards - report.num_kept
    rejected = f", {report.num_rejected} images rejected" if report.num_rejected else ""
    if report.num_there == report.num_planned:
        rest = "all shards are there: the same command with --finalize writes the index"
    else:
        rest = f"{report.num_there} of {report.num_planned} shards are there"
    return (
        f"{root}: task {index} of {num_tasks}: {written} shards written, {report.num_kept} "
        f"verified and kept{rejected}; {rest}"
    )


def _packing_line(root: Path, packing: Packing, seconds: float) -> str:
    written = packing.num_shards - packing.num_kept
    rate = ""
    if written == packing.num_shards:
        rate = f", {packing.num_samples / seconds:.0f} images/s"
    damaged = f", {packing.num_accepted} damaged images accepted" if packing.num_accepted else ""
    return (
        f"{root}: {packing.num_samples} samples in {packing.num_shards} shards, "
        f"{packing.num_bytes / 1e6:.1f} MB; {written} written, {packing.num_kept} "
        f"{'verified and ' if packing.is_verified else ''}kept, {packing.num_rejected} images "
        f"rejected{damaged} ({seconds:.1f} s{rate})"
    )
