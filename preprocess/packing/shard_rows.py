"""The rows of finished shards, with the CRC of each image: as they are kept with a shard while a
split is packed, else as the tables of the split have them, else as the tar itself says.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from preprocess.packing.folder_state import FolderState, finished_rows
from preprocess.packing.index_file import samples_array
from preprocess.packing.index_tables import checked_crcs, full_rows, image_crcs, with_crcs
from preprocess.packing.packing_plan import Job
from preprocess.packing.resume import Entry
from shards.disk.format import FINISHED_NAME, ROWS_NAME, SAMPLES_NAME, TABLES_VERSION, shard_name
from shards.disk.tables import array_crc, open_tables
from shards.disk.writer import SampleRow, read_rows
from shards.errors import FormatError
from shards.index import map_samples


def rows_of_shards(
    job: Job, state: FolderState, root: Path, entries: Sequence[Entry]
) -> list[np.ndarray]:
    """Return the rows of each shard, in order. No tar is read of those that are kept or in tables."""
    num_members = len(job.image.members)
    stored = stored_rows(job, state, root)
    rows = []
    for number, entry in enumerate(tqdm(entries, f"write {ROWS_NAME}", unit="shard", disable=None)):
        found = finished_rows(root, entry)
        file = f"{FINISHED_NAME}/{Path(entry.name).stem}.npy"
        if found is None:
            found = stored.get(entry.name)
            file = SAMPLES_NAME
        if found is None:
            numbered = [(number, row) for row in read_rows(root / entry.name)]
            found = samples_array(numbered, len(job.class_names), num_members)
        if "crc" not in (found.dtype.names or ()):  # of version 1, or kept by an older release
            found = with_crcs(found, checked_crcs(root, entry, number, found, file))
        rows.append(found)
    return rows


def linked_shards_rows(
    job: Job,
    state: FolderState,
    root: Path,
    entries: Sequence[Entry],
    linked: Sequence[tuple[int, SampleRow]],
) -> np.ndarray:
    """Make the rows of all samples of tars that are indexed in place, of what is known of them."""
    samples = samples_array(linked, len(job.class_names))
    stored = stored_rows(job, state, root)
    crcs = np.zeros(samples["length"].shape, np.uint32)
    start = 0
    for entry in tqdm(entries, f"write {ROWS_NAME}", unit="shard", disable=None):
        stop = start + entry.num_samples
        rows = samples[start:stop]
        old = stored.get(entry.name)
        is_known = old is not None and all(
            np.array_equal(old[name], rows[name]) for name in ("offset", "length")
        )
        crcs[start:stop] = old["crc"] if is_known else image_crcs(root / entry.name, rows)  # type: ignore[index]
        start = stop
    return with_crcs(samples, crcs)


def stored_rows(job: Job, state: FolderState, root: Path) -> Mapping[str, np.ndarray]:
    """Map the shards of a set to their rows, as far as its index.json has them: reading ten million
    headers takes long. Of version 1 this is done for a set that grows.
    """
    if not state.num_indexed:
        return {}
    numbers = range(sum(part.num_shards for part in state.parts[: state.num_indexed]))
    names = [shard_name(job.split, number) for number in numbers]
    entries = [state.entries[name] for name in names if name in state.entries]
    if len(entries) < len(names):
        return {}
    try:
        if state.index["version"] == TABLES_VERSION:
            return dict(_of_tables(root, state, entries))
        return dict(_of_samples(job, root, entries)) if job.append else {}
    except (FormatError, OSError):
        return {}


def _of_tables(
    root: Path, state: FolderState, entries: Sequence[Entry]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the rows of shards whose part of the tables has its CRCs."""
    tables = open_tables(root, dict(state.index))
    start = 0
    for entry, told in zip(entries, tables.shards.table, strict=False):
        part = slice(start, start + int(told["num_samples"]))
        start = part.stop
        rows = tables.rows[part]
        keys = tables.keys[part]
        is_whole = (array_crc(rows), array_crc(keys)) == (told["rows_crc"], told["keys_crc"])
        if is_whole and told["sha256"].tobytes().hex() == entry.sha256:
            yield entry.name, full_rows(rows, keys)


def _of_samples(job: Job, root: Path, entries: Sequence[Entry]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the rows of shards as samples.npy has them."""
    count = sum(entry.num_samples for entry in entries)
    shape = (count, len(job.class_names), len(job.image.members))
    samples = map_samples(root / SAMPLES_NAME, *shape)
    start = 0
    for number, entry in enumerate(entries):
        rows = samples[start : start + entry.num_samples]
        start += entry.num_samples
        if (rows["shard"] == number).all():
            yield entry.name, rows
