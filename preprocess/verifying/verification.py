"""Check a packed split: every byte of its shards, every image, and the metadata about them.

What the tar says of a sample is the truth; `.idx`, `samples.npy` and `index.json` follow from it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from preprocess.images.image_check import what_is_wrong
from preprocess.packing.index_file import rows_of, samples_array
from preprocess.packing.index_tables import image_crcs
from preprocess.packing.pool import Pool
from preprocess.packing.resume import Entry, holds, lists_of
from preprocess.sources.foreign_tar import check_whole
from preprocess.verifying.packed_folder import Written, read_written, told_samples, written_tables
from shards.decode.png import is_png
from shards.disk.format import (
    FINISHED_NAME,
    INDEX_NAME,
    MAX_STORED_SIDE,
    PROGRESS_NAME,
    ROWS_NAME,
    SAMPLES_NAME,
    SHARD_DTYPE,
    SHARDS_NAME,
    TABLE_NAMES,
    holds_together,
)
from shards.disk.tables import Tables, array_crc
from shards.disk.writer import KEY, SampleRow, dali_index, file_sha256, read_rows
from shards.errors import DataError, FormatError, count_of
from shards.remote.address import Address, is_url

MAX_SHOWN = 20  # findings of one kind in one shard; the rest is counted

# What --repair does: packs a shard again, or the whole split, rewrites a file from the shards, or
# moves it away.
Mend = Literal["shard", "split", "rewrite", "aside", "rename", "foreign", "none"]
_AGAIN = "run the same preprocess.shard command again"
REMEDIES: dict[Mend, str] = {
    "shard": f"--repair moves the shard out of the way; then {_AGAIN}",
    "split": f"--repair moves what it must out of the way; then {_AGAIN}",
    "rewrite": "--repair rewrites it from the shards",
    "aside": "--repair moves it out of the way",
    "rename": "rename the folder back; until then --repair touches nothing",
    "foreign": "use the release that wrote it, or pack again with another --out",
    "none": _AGAIN,
}


@dataclass(frozen=True)
class Fault:
    """Something wrong: in which file of which split folder, with which sample ("" where with none),
    and what to do.
    """

    root: str
    file: str
    key: str
    what: str
    mend: Mend

    def line(self) -> str:
        sample = f"sample {self.key}: " if self.key else ""
        root = Address(self.root) if is_url(self.root) else Path(self.root)
        return f"{root / self.file}: {sample}{self.what}; {REMEDIES[self.mend]}"


@dataclass(frozen=True)
class ShardTask:
    """One shard to check; `first_row` is its first row of samples.npy, -1 where that file cannot be
    trusted.
    """

    root: Path
    entry: Entry
    written: Written
    number: int
    first_row: int


@dataclass(frozen=True)
class Verification:
    """The result of checking one split."""

    findings: list[Fault]
    num_shards: int
    num_samples: int
    num_bytes: int


def verify_split(
    root: Path, pool: Pool, arriving: Callable[[Iterable[ShardTask]], Iterable[ShardTask]] = iter
) -> Verification:
    """Check a split's folder, its shards in parallel. `arriving` yields tasks when their shards
    are there.
    """
    written = read_written(root)
    if written.is_foreign:
        foreign = [Fault(str(root), written.name, "", what, "foreign") for what in written.wrong]
        return Verification(foreign, 0, 0, 0)
    findings = list(_leftovers(root, written))
    samples = written.samples
    if isinstance(samples, str):
        findings.append(Fault(str(root), written.rows_name, "", samples, "rewrite"))
    starts = np.cumsum([0] + [entry.num_samples for entry in written.entries]).tolist()
    tasks = [
        ShardTask(
            root,
            entry,
            written.bare(),
            number,
            starts[number] if isinstance(samples, np.ndarray) else -1,
        )
        for number, entry in enumerate(written.entries)
    ]
    found: list[Fault] = []
    with tqdm(total=starts[-1], desc=f"verify {root.name}", unit="img", disable=None) as bar:
        for task, of_shard in zip(tasks, pool.run(check_shard, arriving(tasks)), strict=True):
            found += of_shard
            bar.update(task.entry.num_samples)
    findings = [*_index_wrong(root, written, not found), *findings, *found]
    # nothing of it follows from the tars alone: the packer has to look at its source
    if written.in_place:
        findings = [
            finding if finding.mend in ("aside", "rename") else replace(finding, mend="none")
            for finding in findings
        ]
    return Verification(
        findings, len(tasks), starts[-1], sum(entry.bytes for entry in written.entries)
    )


def _index_wrong(root: Path, written: Written, samples_are_right: bool) -> Iterator[Fault]:
    """Check index.json by its own checksum and against the shards."""
    if written.split != root.name:
        yield Fault(str(root), "", "", f"is split {written.split} under another name", "rename")
    if written.name == PROGRESS_NAME and not written.wrong:
        yield Fault(str(root), "", "", "packing was not finished", "none")
    for what in written.wrong:
        yield Fault(str(root), written.name, "", what, "split")
    described = written.described
    if described is None or written.wrong:
        return
    can_count = samples_are_right and isinstance(written.samples, np.ndarray)
    truth = described
    if can_count:
        tables = written_tables(root, written) if written.has_tables else None
        keys = tables.keys if isinstance(tables, Tables) else None
        truth = written.with_statistics(written.samples, keys)  # type: ignore[arg-type]
    wrong = [name for name in truth if truth[name] != described.get(name)]
    if wrong:
        # of version 2 the sums of pixels, which no shard proves, are in a file of their own hash
        is_told = written.has_tables or holds_together(truth)
        mend: Mend = "rewrite" if is_told else "split"
        yield Fault(
            str(root), INDEX_NAME, "", f"{' and '.join(wrong)} are not those of its shards", mend
        )
    elif not holds_together(described):
        yield Fault(
            str(root), INDEX_NAME, "", "its checksum is wrong: it is not what was written", "split"
        )


def _leftovers(root: Path, written: Written) -> Iterator[Fault]:
    """Find files that do not belong to a finished split, and check its list of rejects."""
    if written.name != INDEX_NAME or written.described is None:
        return  # the packer clears up when it finishes
    for name in (PROGRESS_NAME, FINISHED_NAME):
        if (root / name).exists():
            what = f"is beside {INDEX_NAME}, left by a killed packing"
            yield Fault(str(root), name, "", what, "aside")
    other = (SAMPLES_NAME,) if written.has_tables else TABLE_NAMES
    for name in sorted(path.name for path in root.iterdir()):
        if name in other:
            yield Fault(str(root), name, "", "is of the other format version", "aside")
        elif written.is_temporary(name):
            yield Fault(str(root), name, "", "half-written, left by a killed packing", "aside")
        elif written.is_surplus(name):
            yield Fault(str(root), name, "", f"{written.name} does not list it", "aside")
    for name, lines in lists_of(written.entries).items():
        what = name.removesuffix(".jsonl")
        if lines and not holds(root / name, lines):
            yield Fault(
                str(root), name, "", f"does not list what {INDEX_NAME} lists as {what}", "rewrite"
            )
        elif (root / name).exists() and not lines:
            yield Fault(str(root), name, "", f"{INDEX_NAME} lists nothing as {what}", "aside")


def check_shard(task: ShardTask) -> list[Fault]:
    """Check one shard and all that is written down of it, in whichever process."""
    root = str(task.root)
    entry = task.entry
    path = task.root / task.entry.name
    if not path.is_file():
        return [Fault(root, entry.name, "", "is missing", "shard")]
    findings = [Fault(root, entry.name, "", what, "shard") for what in _bytes_wrong(path, task)]
    if task.written.in_place and not findings:
        findings += [Fault(root, entry.name, "", what, "shard") for what in _tar_wrong(path)]
    rows: list[SampleRow] = []
    try:
        rows.extend(_told_rows(task) if task.written.in_place else read_rows(path))
        if len(rows) != entry.num_samples and not task.written.in_place:
            raise FormatError(
                f"{path}: holds {count_of(len(rows), 'sample')}, {task.written.name} says "
                f"{entry.num_samples}"
            )
        intact = not findings
    except FormatError as error:
        intact = False
        what = str(error).removeprefix(f"{path}: ").partition("; pack")[0]
        findings.append(Fault(root, entry.name, "", what, "shard"))
    findings += _capped(
        [
            Fault(root, entry.name, key, what, "shard")
            for key, what in _samples_wrong(path, rows, task)
        ]
    )
    if not intact:
        # what is written down was right once: it cannot be compared with a damaged shard
        return findings
    if not holds(path.with_suffix(".idx"), dali_index(path)):
        name = path.with_suffix(".idx").name
        state = "is not the index of its shard" if (task.root / name).exists() else "is missing"
        findings.append(Fault(root, name, "", state, "rewrite"))
    if (
        task.first_row >= 0
        and not task.written.in_place
        and all(_fits(row, task.written) is None for row in rows)
    ):
        name = task.written.rows_name
        wrong = [Fault(root, name, key, what, "rewrite") for key, what in _rows_wrong(rows, task)]
        findings += _capped(wrong)
    if task.first_row >= 0 and task.written.has_tables:
        findings += tables_wrong(path, task)
    return findings


def _capped(findings: list[Fault]) -> list[Fault]:
    if len(findings) <= MAX_SHOWN:
        return findings
    first = findings[0]
    rest = f"and {count_of(len(findings) - MAX_SHOWN, 'more sample is wrong', 'more samples are wrong')}"
    return [*findings[:MAX_SHOWN], Fault(first.root, first.file, "", rest, first.mend)]


def _tar_wrong(path: Path) -> Iterator[str]:
    """Find faults of a linked tar that its index does not show: members after its end mark, or no
    end mark.
    """
    try:
        check_whole(path)
    except DataError as error:
        yield str(error).removeprefix(f"{path}: ")


def _bytes_wrong(path: Path, task: ShardTask) -> Iterator[str]:
    entry = task.entry
    size = path.stat().st_size
    if size != entry.bytes:
        yield f"has {count_of(size, 'byte')}, {task.written.name} says {entry.bytes:,}"
        return
    checksum = file_sha256(path)
    if checksum != entry.sha256:
        twin = read_written(task.root).checksums.get(checksum)  # only of a damaged shard
        yield "its checksum is wrong" + (f": it holds the bytes of {twin}" if twin else "")


def _samples_wrong(
    path: Path, rows: Sequence[SampleRow], task: ShardTask
) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    shard = (
        np.memmap(path, np.uint8, "r") if rows and path.stat().st_size else np.empty(0, np.uint8)
    )
    for row in rows:
        what = _fits(row, task.written)
        if row.key in seen:
            yield row.key, "is there twice"
        seen.add(row.key)
        if what is not None:
            yield row.key, what
            continue
        for suffix, start, length in zip(row.suffixes, row.offset, row.length, strict=True):
            if start + length > len(shard):
                yield row.key, f"{suffix} is beyond the end of the shard"
                continue
            data = np.asarray(shard[start : start + length])
            kind = "png" if task.written.in_place and is_png(data) else suffix
            if what := what_is_wrong(data, kind, row.width, row.height):
                yield row.key, what


def _fits(row: SampleRow, written: Written) -> str | None:
    """Find what is wrong with one sample of this split."""
    num_classes = written.num_classes
    if not KEY.fullmatch(row.key):  # of a shard in place, as samples.npy tells it
        return f"its key in {written.rows_name} is none that the packer makes"
    if written.members and row.suffixes != written.members:
        return f"its images are {', '.join(row.suffixes) or 'none'}, {written.name} says {', '.join(written.members)}"
    if not 1 <= row.width <= MAX_STORED_SIDE or not 1 <= row.height <= MAX_STORED_SIDE:
        return f"its JSON tells {row.width} x {row.height} pixels"
    shown = [*row.labels, *row.ignored]
    if num_classes and max(shown, default=0) >= num_classes:
        return f"its JSON has class {max(shown)}, there are {num_classes}"
    if len(set(shown)) < len(shown):
        return "its JSON names a class twice"
    if written.task == "multiclass" and len(row.labels) != 1:
        return f"its JSON has {count_of(len(row.labels), 'label')}, a multiclass sample has one"
    return None


def _told_rows(task: ShardTask) -> Iterator[SampleRow]:
    """List the samples of a linked shard from samples.npy; none where it cannot be trusted."""
    if task.first_row >= 0:
        told = told_samples(task.root, task.written, task.first_row, task.entry.num_samples)
        yield from rows_of(told, task.written.num_classes)


def _rows_wrong(rows: Sequence[SampleRow], task: ShardTask) -> Iterator[tuple[str, str]]:
    """Compare samples.npy, or the tables, with the tar."""
    told = told_samples(task.root, task.written, task.first_row, len(rows))
    truth = samples_array([(task.number, row) for row in rows], task.written.num_classes)
    for row, here, there in zip(rows, told, truth, strict=True):
        wrong = [
            name for name in truth.dtype.names or () if not np.array_equal(here[name], there[name])
        ]
        if wrong:
            what = ", ".join(
                f"{name} is {_shown(here[name])}, the tar says {_shown(there[name])}"
                for name in wrong
            )
            yield row.key, what


def tables_wrong(path: Path, task: ShardTask) -> Iterator[Fault]:
    """Compare a shard with its row of shards.npy, and the images' CRCs with their bytes."""
    root = str(task.root)
    entry = task.entry
    tables = written_tables(task.root, task.written)
    assert not isinstance(tables, str), tables
    part = slice(task.first_row, task.first_row + entry.num_samples)
    rows = tables.rows[part]
    told = tables.shards.table[task.number]
    crcs = (array_crc(rows), array_crc(tables.keys[part]))
    truth = (entry.bytes, entry.num_samples, *crcs, bytes.fromhex(entry.sha256))
    for name, found, right in zip(SHARD_DTYPE.names or (), told, truth, strict=True):
        if (found.tobytes() if name == "sha256" else found) != right:
            yield Fault(root, SHARDS_NAME, "", f"{name} of {entry.name} is wrong", "rewrite")
    ends = rows["offset"].astype(np.int64) + rows["length"]
    if (ends > path.stat().st_size).any():
        return  # reported for the rows themselves
    for number in np.flatnonzero((image_crcs(path, rows) != rows["crc"]).any(1)).tolist():
        key = tables.keys[part][number].decode("ascii", "backslashreplace")
        yield Fault(root, ROWS_NAME, key, "its CRC is not that of its image", "rewrite")


def _shown(value: Any) -> str:
    return (
        value.decode(errors="backslashreplace")
        if isinstance(value, bytes)
        else str(np.squeeze(value).tolist())
    )


def find_splits(data: Path) -> list[Path]:
    """List the split folders of a dataset folder, unfinished and damaged ones too; `data` itself if
    it is a split.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; give a packed dataset such as data/voc")
    if _is_split(data):
        return [data]
    splits = sorted(child for child in data.iterdir() if child.is_dir() and _is_split(child))
    if not splits:
        raise DataError(f"{data}: holds no packed split; give a packed dataset such as data/voc")
    return splits


def _is_split(folder: Path) -> bool:
    marks = (INDEX_NAME, PROGRESS_NAME, SAMPLES_NAME, *TABLE_NAMES)
    return any((folder / name).exists() for name in marks) or any(
        folder.glob(f"{folder.name}-*.tar")
    )
