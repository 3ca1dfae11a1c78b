"""Upgrade one split: version 2's files beside version 1's, then index.json, then version 1's go."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from preprocess.packing.index_tables import checked_crcs, write_tables
from preprocess.packing.lock import alone_in
from preprocess.packing.resume import Entry, read_entries, why_no_sequence
from shards.disk.format import (
    FORMAT_VERSION,
    INDEX_NAME,
    SAMPLES_NAME,
    TABLE_NAMES,
    TABLES_VERSION,
    holds_together,
)
from shards.errors import DataError, FormatError, count_of
from shards.index import DatasetIndex

AHEAD = 4  # shards a thread: their CRCs wait for their turn


def upgrade_split(root: Path, num_threads: int = 0) -> str:
    """Make a finished split one of version 2; return what was done.

    Raises FormatError where it is unfinished or damaged: an upgrade would make it look right.
    """
    with alone_in(root):
        index = DatasetIndex.open(root)
        described = json.loads((root / INDEX_NAME).read_bytes())
        if described["version"] == TABLES_VERSION:
            removed = (root / SAMPLES_NAME).exists()
            _forget_version_1(root)
            return f"{root}: is of version 2 already" + (
                f"; {SAMPLES_NAME} of version 1 is removed" if removed else ""
            )
        entries = _entries(root, described, index.split)
        samples = np.asarray(index.samples)
        try:
            write_tables(
                root,
                described,
                samples,
                _checked_crcs(root, entries, samples, num_threads or os.cpu_count() or 1),
                entries,
            )
        except BaseException:
            _forget_tables(root)
            raise
        _forget_version_1(root)
    return (
        f"{root}: {count_of(index.num_samples, 'sample')} in {count_of(len(entries), 'shard')} of "
        "version "
        f"{TABLES_VERSION} now"
    )


def _entries(root: Path, described: dict[str, object], split: str) -> list[Entry]:
    """Read what index.json of version 1 lists. Raises FormatError for one that is damaged."""
    path = root / INDEX_NAME
    again = f"python -m preprocess.verify {root} says what is damaged"
    if not holds_together(described):
        raise FormatError(f"{path}: its checksum is wrong: it is not what was written; {again}")
    try:
        entries = read_entries(split, described["shards"])  # type: ignore[arg-type]
        broken = why_no_sequence(split, entries)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); {again}") from error
    if broken:
        raise FormatError(f"{path}: {broken}; {again}")
    return entries


def _checked_crcs(
    root: Path, entries: list[Entry], samples: np.ndarray, num_threads: int
) -> Iterator[np.ndarray]:
    """Yield the CRCs of each shard's images, in order. Raises FormatError for a shard that does not
    have its checksum.
    """
    starts = np.cumsum([0] + [entry.num_samples for entry in entries]).tolist()

    def check(number: int) -> np.ndarray:
        entry = entries[number]
        rows = samples[starts[number] : starts[number + 1]]
        return checked_crcs(root, entry, number, rows, SAMPLES_NAME)

    title = f"read {root.name}"
    with (
        ThreadPoolExecutor(num_threads) as pool,
        tqdm(total=len(entries), desc=title, unit="shard", disable=None) as bar,
    ):
        waiting = []
        for number in range(len(entries) + 1):
            if number < len(entries):
                waiting.append(pool.submit(check, number))
            while waiting and (len(waiting) > AHEAD * num_threads or number == len(entries)):
                bar.update()
                yield waiting.pop(0).result()


def _forget_version_1(root: Path) -> None:
    (root / SAMPLES_NAME).unlink(missing_ok=True)


def _forget_tables(root: Path) -> None:
    """Remove what an upgrade has begun to write, unless it has come to its end."""
    version = json.loads((root / INDEX_NAME).read_bytes())["version"]
    if version != FORMAT_VERSION:
        return
    for name in TABLE_NAMES:
        try:
            (root / name).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{root / name}: cannot be removed ({error.strerror})") from error
