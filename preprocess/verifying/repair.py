"""Repair a damaged split, or prepare it for the packer to complete. Nothing is deleted: files are
moved aside.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.packing.folder_state import forget_progress, parts_of, write_progress
from preprocess.packing.index_file import npy, samples_array
from preprocess.packing.index_tables import image_crcs, write_tables
from preprocess.packing.resume import (
    lists_of,
    to_json,
)
from preprocess.verifying.packed_folder import Written, read_written
from preprocess.verifying.verification import Fault
from shards.disk.format import (
    CHECKSUM,
    DAMAGED_NAME,
    INDEX_NAME,
    SAMPLES_NAME,
    TABLE_NAMES,
    digest,
    holds_together,
    write_atomically,
)
from shards.disk.writer import dali_index, read_rows


def repair_split(root: Path, findings: Sequence[Fault]) -> Iterator[str]:
    """Repair what was found in a split, and report each step.

    What follows from intact shards is rewritten. Where a shard has to be packed again the folder
    becomes an unfinished one, packing.json first: the packer then keeps what is intact, and a kill
    in between loses nothing.
    """
    written = read_written(root)
    if written.is_foreign or written.split != root.name:
        return
    mends = {finding.mend for finding in findings}
    for name in sorted({finding.file for finding in findings if finding.mend == "aside"}):
        yield _set_aside(root, name)
    for name in sorted(
        {
            finding.file
            for finding in findings
            if finding.mend == "rewrite" and ".idx" in finding.file
        }
    ):
        yield from _written_anew(root, name, dali_index((root / name).with_suffix(".tar")))
    if not mends & {"shard", "split"}:
        yield from _rewrite(
            root, written, {finding.file for finding in findings if finding.mend == "rewrite"}
        )
        return
    # A wrong checksum does not say which value is wrong: it may be a pixel sum, which the shards
    # cannot prove wrong.
    if written.entries and (written.described is None or holds_together(written.described)):
        if written.name == INDEX_NAME:
            assert written.described is not None
            write_progress(root, parts_of(written.listed), written.entries)
            yield _set_aside(root, INDEX_NAME)
        damaged = {finding.file for finding in findings if finding.mend == "shard"}
        names = [name for tar in damaged for name in (tar, Path(tar).with_suffix(".idx").name)]
    else:  # nothing tells which shard is intact, nor of which dataset
        names = [
            path.name
            for path in root.iterdir()
            if path.name != DAMAGED_NAME and written.is_ours(path.name)
        ]
    yield from (_set_aside(root, name) for name in sorted(names) if (root / name).exists())


def _rewrite(root: Path, written: Written, names: set[str]) -> Iterator[str]:
    """Write samples.npy and what index.json counts from shards that are all intact."""
    for name, lines in lists_of(written.entries).items():
        if name in names:
            yield from _written_anew(root, name, lines)
    if not names & {SAMPLES_NAME, INDEX_NAME, *TABLE_NAMES}:
        return
    assert written.described is not None
    rows = [
        (number, row)
        for number, entry in enumerate(written.entries)
        for row in read_rows(root / entry.name)
    ]
    samples = samples_array(rows, written.num_classes)
    write_progress(root, parts_of(written.listed), written.entries)
    described = written.with_statistics(samples, None)  # write_tables tells the digests
    if written.has_tables:
        yield from _tables_again(root, described, samples, written)
        forget_progress(root)
        return
    yield from _written_anew(root, SAMPLES_NAME, npy(samples))
    if CHECKSUM in described:
        del described[CHECKSUM]
        described[CHECKSUM] = digest(described)
    yield from _written_anew(root, INDEX_NAME, to_json(described))
    forget_progress(root)


def _tables_again(
    root: Path, described: dict[str, Any], samples: np.ndarray, written: Written
) -> Iterator[str]:
    """Write the tables of version 2 from shards that are all intact; copies of the old go aside."""
    for name in (*TABLE_NAMES, INDEX_NAME):
        if (root / name).exists():
            yield _set_aside(root, name)
    starts = np.cumsum([0] + [entry.num_samples for entry in written.entries]).tolist()
    crcs = (
        image_crcs(root / entry.name, samples[start : start + entry.num_samples])
        for entry, start in zip(written.entries, starts, strict=False)
    )
    write_tables(root, described, samples, crcs, written.entries)
    yield f"{root / INDEX_NAME}: rewritten with its tables from the shards"


def _written_anew(root: Path, name: str, content: bytes) -> Iterator[str]:
    path = root / name
    if path.exists():
        if path.read_bytes() == content:
            return
        yield _set_aside(root, name)
    write_atomically(path, content)
    yield f"{path}: rewritten from the shards"


def _set_aside(root: Path, name: str) -> str:
    """Move a file into the folder of the damaged, under a name that is free there."""
    folder = root / DAMAGED_NAME
    folder.mkdir(exist_ok=True)
    names = (name if number == 0 else f"{name}.{number}" for number in itertools.count())
    to = next(folder / free for free in names if not (folder / free).exists())
    (root / name).rename(to)
    return f"{root / name}: moved to {to}"
