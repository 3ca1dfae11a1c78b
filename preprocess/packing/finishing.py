"""Finish a split whose shards are all there: samples.npy, then index.json, its mark."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from preprocess.packing.folder_state import (
    FolderState,
    finished_rows,
    forget_progress,
    write_progress,
)
from preprocess.packing.in_place import linked_rows
from preprocess.packing.index_file import joined_rows, npy, samples_array, statistics
from preprocess.packing.packing_plan import Job, PackingPlan
from preprocess.packing.resume import (
    Entry,
    entries_as_json,
    holds,
    is_there,
    to_json,
    write_lists,
)
from shards.disk.format import (
    CHECKSUM,
    FORMAT_NAME,
    FORMAT_VERSION,
    INDEX_NAME,
    REJECTED_NAME,
    SAMPLES_NAME,
    digest,
    shard_name,
    write_atomically,
)
from shards.disk.writer import read_rows
from shards.errors import DataError, FormatError
from shards.index import map_samples


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
    """Write the lists of rejects, samples.npy and index.json. Raises DataError past `max_rejects`.

    What is there already and the same is not touched.
    """
    write_lists(root, entries)
    _check_rejects(job, root, [entries[number] for number in plan.numbers])
    if job.in_place:
        samples = samples_array(linked_rows(plan.records, entries), len(job.class_names))
    else:
        samples = joined_rows(_rows(job, state, root, entries))
    if not len(samples):
        raise DataError(f"{job.split}: no image could be packed; see {root / REJECTED_NAME}")
    described = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "split": job.split,
        "task": job.task,
        "class_names": job.class_names,
        "num_samples": len(samples),
        "num_rejected": sum(len(entry.rejected) for entry in entries),
        "image": image_described(job),
        "statistics": statistics(samples, entries, len(job.class_names)),
        **({"in_place": True} if job.in_place else {}),
        "command": plan.parts[0].command,
        "identity": plan.parts[0].identity,
        "parts": [asdict(part) for part in plan.parts],
        "shards": entries_as_json(entries),
    }
    described[CHECKSUM] = digest(described)
    contents = {SAMPLES_NAME: npy(samples), INDEX_NAME: to_json(described)}
    if not all(holds(root / name, content) for name, content in contents.items()):
        write_progress(root, plan.parts, entries)
        (root / INDEX_NAME).unlink(missing_ok=True)
        for name, content in contents.items():
            write_atomically(root / name, content)
    forget_progress(root)


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
        f"{num_rejected} of {sum(entry.num_records for entry in entries)} images of {job.split} "
        f"were rejected, --max-rejects is {job.max_rejects}: see {root / REJECTED_NAME}; repair "
        f"them, or run again with --max-rejects {num_rejected}{how}"
    )


def _rows(job: Job, state: FolderState, root: Path, entries: Sequence[Entry]) -> list[np.ndarray]:
    """Return each shard's rows: as written down with it, else of another part as samples.npy has
    them, else as the tar itself says.
    """
    num_members = len(job.image.members)
    rows = []
    old = _old_rows(job, state, root)
    for number, entry in enumerate(
        tqdm(entries, f"write {SAMPLES_NAME}", unit="shard", disable=None)
    ):
        found = finished_rows(root, entry)
        if found is None:
            found = old.get(entry.name)
        if found is None:
            numbered = [(number, row) for row in read_rows(root / entry.name)]
            found = samples_array(numbered, len(job.class_names), num_members)
        rows.append(found)
    return rows


def _old_rows(job: Job, state: FolderState, root: Path) -> dict[str, np.ndarray]:
    """Map the shards of a set that grows to their rows: reading ten million headers takes long."""
    if not job.append or not state.num_indexed:
        return {}
    numbers = range(sum(part.num_shards for part in state.parts[: state.num_indexed]))
    entries = [state.entries[shard_name(job.split, number)] for number in numbers]
    count = sum(entry.num_samples for entry in entries)
    try:
        samples = map_samples(
            root / SAMPLES_NAME, count, len(job.class_names), len(job.image.members)
        )
    except FormatError:
        return {}
    rows = {}
    at = 0
    for number, entry in zip(numbers, entries, strict=True):
        found = samples[at : at + entry.num_samples]
        at += entry.num_samples
        if (found["shard"] == number).all():
            rows[entry.name] = found
    return rows
