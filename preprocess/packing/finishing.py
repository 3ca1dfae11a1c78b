"""Finish a split whose shards are all there: its tables, then index.json, its mark."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from preprocess.packing.folder_state import FolderState, forget_progress, write_progress
from preprocess.packing.index_file import joined_rows, statistics
from preprocess.packing.index_tables import holds_tables, write_tables
from preprocess.packing.packing_plan import Job, PackingPlan
from preprocess.packing.resume import Entry, is_there, write_lists
from preprocess.packing.shard_rows import linked_shards_rows, rows_of_shards
from shards.disk.format import (
    FORMAT_NAME,
    INDEX_NAME,
    REJECTED_NAME,
    SAMPLES_NAME,
    TABLES_VERSION,
    shard_name,
)
from shards.errors import DataError, count_of


def all_entries(
    plan: PackingPlan, state: FolderState, made: Sequence[Entry], root: Path
) -> list[Entry]:
    """List the entries of all shards, those of this part as `made`. Raises DataError where one of
    another part is not there.
    """
    entries = []
    for number in range(plan.num_shards):
        if number in plan.numbers:
            entries.append(made[number - plan.numbers.start])
            continue
        entry = state.entries.get(shard_name(plan.split, number))
        if entry is None or not is_there(root, entry):
            raise DataError(
                f"{root / shard_name(plan.split, number)}: is not there, and it is of another "
                "packing than this one: run its command again (index.json or packing.json names "
                "it under parts), or give --append with the source that holds all images"
            )
        entries.append(entry)
    return entries


def finish_split(
    job: Job, plan: PackingPlan, state: FolderState, root: Path, entries: Sequence[Entry]
) -> None:
    """Write the lists of rejects, the tables and index.json. Raises DataError past `max_rejects`.

    What is there already and the same is not touched. A folder of version 1 becomes one of
    version 2.
    """
    write_lists(root, entries)
    _check_rejects(job, root, [entries[number] for number in plan.numbers])
    rows = _rows(job, plan, state, root, entries)
    if not len(rows):
        raise DataError(f"{job.split}: no image could be packed; see {root / REJECTED_NAME}")
    described = {
        "format": FORMAT_NAME,
        "version": TABLES_VERSION,
        "split": job.split,
        "task": job.task,
        "class_names": job.class_names,
        "num_samples": len(rows),
        "num_rejected": sum(len(entry.rejected) for entry in entries),
        "image": image_described(job),
        "statistics": statistics(rows, entries, len(job.class_names)),
        **({"in_place": True} if job.in_place else {}),
        "command": plan.parts[0].command,
        "identity": plan.parts[0].identity,
        "parts": [asdict(part) for part in plan.parts],
    }
    if not holds_tables(root, described, rows, entries):
        write_progress(root, plan.parts, entries)
        (root / INDEX_NAME).unlink(missing_ok=True)
        starts = np.cumsum([0] + [entry.num_samples for entry in entries]).tolist()
        crcs = (rows["crc"][low:high] for low, high in pairwise(starts))
        write_tables(root, described, rows, crcs, entries)
    tidy_finished(root)


def tidy_finished(root: Path) -> None:
    """Remove what is of no use beside a finished index: a kill may have come just before this."""
    if json.loads((root / INDEX_NAME).read_bytes())["version"] == TABLES_VERSION:
        (root / SAMPLES_NAME).unlink(missing_ok=True)
    forget_progress(root)


def _rows(
    job: Job, plan: PackingPlan, state: FolderState, root: Path, entries: Sequence[Entry]
) -> np.ndarray:
    """Make the rows of all samples, with the CRCs of their images."""
    if not job.in_place:
        return joined_rows(rows_of_shards(job, state, root, entries))
    from preprocess.packing.in_place import linked_rows

    return linked_shards_rows(job, state, root, entries, linked_rows(plan.records, entries))


def image_described(job: Job) -> dict[str, object]:
    """Describe the images of a split as its index.json does."""
    settings = {} if job.in_place else asdict(job.image)
    return {"members": job.image.members, "mode": "RGB", **settings}


def _check_rejects(job: Job, root: Path, entries: Sequence[Entry]) -> None:
    num_rejected = sum(len(entry.rejected) for entry in entries)
    if num_rejected <= job.max_rejects:
        return
    num_damaged = sum(entry.num_damaged for entry in entries)
    how = ""
    if num_damaged and not job.in_place:
        how = f", or with --accept-damaged ({num_damaged} of them)"
    raise DataError(
        f"{num_rejected} of {count_of(sum(entry.num_records for entry in entries), 'image')} of "
        f"{job.split} "
        f"were rejected, --max-rejects is {job.max_rejects}: see {root / REJECTED_NAME}; repair "
        f"them, or run again with --max-rejects {num_rejected}{how}"
    )
