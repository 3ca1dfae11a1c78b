"""Write one split: shards, then samples.npy, then index.json. What is finished is verified and
kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from preprocess.images.geometry import ImageOptions
from preprocess.images.members import Packed
from preprocess.packing.in_place import index_shards, link_shards, linked_rows
from preprocess.packing.index_file import npy, samples_array, statistics
from preprocess.packing.keys import sample_key
from preprocess.packing.lock import alone_in
from preprocess.packing.pool import Pool, Result
from preprocess.packing.resume import (
    CHECKSUM,
    Entry,
    digest,
    entries_as_json,
    holds,
    inputs,
    is_intact,
    previous_entries,
    remove_surplus,
    to_json,
    write_lists,
    write_progress,
)
from preprocess.record import MAX_CLASSES, Record
from shards.disk.format import (
    FORMAT_NAME,
    FORMAT_VERSION,
    INDEX_NAME,
    PROGRESS_NAME,
    REJECTED_NAME,
    SAMPLES_NAME,
    shard_name,
    write_atomically,
)
from shards.disk.writer import Sample, ShardWriter, read_rows
from shards.errors import DataError
from shards.index import Task


@dataclass(frozen=True)
class Job:
    """One split to pack. `command` is stored in index.json. Raises DataError for a number out of
    range of classes: every sample has a bit for each, in memory a byte.
    """

    split: str
    class_names: tuple[str, ...]
    records: Sequence[Record]
    image: ImageOptions
    shard_bytes: int
    shard_samples: int  # 0: no limit
    max_rejects: int
    command: str
    task: Task = "multilabel"
    # the records are in tars, which are linked to and indexed instead of copied
    in_place: bool = False
    # JPEGs that have lost pixels are packed, and listed, instead of rejected
    accept_damaged: bool = False

    def __post_init__(self) -> None:
        if len(self.class_names) > MAX_CLASSES:
            raise DataError(
                f"the source has {len(self.class_names):,} classes, such as "
                f"{self.class_names[-1]!r}; {MAX_CLASSES:,} are the most: are these numbers or "
                "texts instead of classes?"
            )

    def identity(self) -> str:
        """Hash the identity of this dataset: names, labels and options, not the pixels."""
        content = [
            self.split,
            self.task,
            self.class_names,
            asdict(self.image),
            self.shard_bytes,
            self.shard_samples,
        ]
        records = [(r.name, r.source, r.labels, r.ignored) for r in self.records]
        return digest([FORMAT_VERSION, *content, records, *(["in place"] if self.in_place else [])])


@dataclass(frozen=True)
class Packing:
    """The result of packing one split."""

    num_samples: int
    num_shards: int
    num_kept: int
    num_rejected: int
    num_bytes: int
    num_accepted: int = 0  # damaged


def pack_split(job: Job, root: Path, pool: Pool) -> Packing:
    """Pack a split into folder `root`.

    Raises DataError past `max_rejects`, where `root` holds something else, and where another
    process packs into it.
    """
    _check_keys(job.records)
    root.mkdir(parents=True, exist_ok=True)
    with alone_in(root):
        return _pack(job, root, pool)


def _pack(job: Job, root: Path, pool: Pool) -> Packing:
    identity = job.identity()
    previous = previous_entries(root, job.split, identity, len(job.records))
    finished = (root / INDEX_NAME).exists()
    if job.in_place:
        if not finished:  # so that links are never found in a folder without it
            write_progress(root, identity, previous)
        link_shards(job.split, job.records, root)
    kept = {
        entry.name: entry
        for entry in tqdm(previous, "verify", unit="shard", disable=None if previous else True)
        # Rejects that were not tolerated get another chance: the image or the disk may have been
        # repaired.
        if (finished or not entry.rejected)
        and _is_as_asked(job, entry)
        and is_intact(root, entry, job.records)
    }
    if finished and previous and len(kept) == len(previous):
        entries = previous
    else:
        # First the record of what is kept, then the mark of completeness goes: a kill in between
        # loses nothing.
        write_progress(root, identity, kept.values())
        (root / INDEX_NAME).unlink(missing_ok=True)
        entries = []
        known = dict(kept)
        made = (
            index_shards(job.split, job.records, root, pool, kept)
            if job.in_place
            else _shards(job, root, pool, kept)
        )
        for entry in made:
            entries.append(entry)
            if kept.get(entry.name) != entry:
                known[entry.name] = entry
                write_progress(root, identity, known.values())
    write_lists(root, entries)
    num_rejected = sum(len(entry.rejected) for entry in entries)
    if num_rejected > job.max_rejects:
        num_damaged = sum(entry.num_damaged for entry in entries)
        how = (
            f", or with --accept-damaged ({num_damaged} of them)"
            if num_damaged and not job.in_place
            else ""
        )
        raise DataError(
            f"{num_rejected} of {len(job.records)} images of {job.split} were rejected, "
            f"--max-rejects is {job.max_rejects}: see {root / REJECTED_NAME}; repair them, or run "
            f"again with --max-rejects {num_rejected}{how}"
        )
    _finish(job, root, entries, identity)
    return Packing(
        num_samples=sum(entry.num_samples for entry in entries),
        num_shards=len(entries),
        num_kept=sum(kept.get(entry.name) == entry for entry in entries),
        num_rejected=num_rejected,
        num_bytes=sum(entry.bytes for entry in entries),
        num_accepted=sum(len(entry.accepted) for entry in entries),
    )


def _is_as_asked(job: Job, entry: Entry) -> bool:
    """Tell whether a shard holds damaged images, or leaves them out, as --accept-damaged says now."""
    return not entry.num_damaged if job.accept_damaged else not entry.accepted


def _shards(job: Job, root: Path, pool: Pool, kept: dict[str, Entry]) -> Iterator[Entry]:
    """Yield the entries of all shards in order, writing those that are not kept."""
    at = 0
    number = 0
    results: _Ahead | None = None
    with tqdm(total=len(job.records), desc=f"pack {job.split}", unit="img", disable=None) as bar:
        while at < len(job.records):
            entry = kept.get(shard_name(job.split, number))
            if entry is not None and entry.first_record == at:
                results = None
            else:
                results = results or _Ahead(
                    pool.pack(job.records[at:], job.image, job.accept_damaged)
                )
                entry = _write_shard(job, root / shard_name(job.split, number), at, results, bar)
            at += entry.num_records
            bar.update(at - bar.n)
            number += 1
            yield entry
    remove_surplus(root, job.split, number)


class _Ahead:
    """Results with a look at the next one."""

    def __init__(self, results: Iterator[Result]) -> None:
        self._results = results
        self._next: Result | None = None

    def peek(self) -> Result:
        if self._next is None:
            self._next = next(self._results)
        return self._next

    def take(self) -> Result:
        taken = self.peek()
        self._next = None
        return taken


def _write_shard(job: Job, path: Path, first: int, results: _Ahead, bar: tqdm) -> Entry:
    writer = ShardWriter(path)
    rejected: list[dict[str, str]] = []
    accepted: list[dict[str, str]] = []
    num_pixels = 0
    sums = [0] * job.image.num_channels
    squares = [0] * job.image.num_channels
    at = first
    try:
        # What is rejected right behind a full shard is still reported with it: no shard is left
        # without a sample.
        while at < len(job.records) and not (
            _is_full(job, writer) and isinstance(results.peek(), Packed)
        ):
            record = job.records[at]
            result = results.take()
            at += 1
            bar.update()
            if isinstance(result, str):
                rejected.append({"source": record.source, "reason": result})
                continue
            if result.damage:
                accepted.append({"source": record.source, "reason": result.damage})
            writer.add(_sample(record, result))
            num_pixels += result.width * result.height
            sums = [a + b for a, b in zip(sums, result.pixel_sum, strict=True)]
            squares = [a + b for a, b in zip(squares, result.pixel_sum_squares, strict=True)]
        num_bytes = writer.num_bytes
        sha256 = writer.close()
    except BaseException:
        writer.abort()
        raise
    hashed = inputs(job.records[first:at])
    return Entry(
        name=path.name,
        bytes=num_bytes,
        num_samples=len(writer.rows),
        sha256=sha256,
        first_record=first,
        num_records=at - first,
        inputs=hashed,
        num_pixels=num_pixels,
        pixel_sum=sums,
        pixel_sum_squares=squares,
        rejected=rejected,
        accepted=accepted,
    )


def _sample(record: Record, packed: Packed) -> Sample:
    return Sample(
        key=sample_key(record.name),
        images=packed.images,
        labels=record.labels,
        ignored=record.ignored,
        width=packed.width,
        height=packed.height,
        source=record.source,
    )


def _is_full(job: Job, writer: ShardWriter) -> bool:
    num_samples = len(writer.rows)
    return num_samples > 0 and (
        writer.num_bytes >= job.shard_bytes
        or (job.shard_samples > 0 and num_samples >= job.shard_samples)
    )


def _finish(job: Job, root: Path, entries: list[Entry], identity: str) -> None:
    """Write samples.npy from what the shards hold, then index.json, the mark of a finished folder.

    Where both are there already and the same, nothing is touched.
    """
    if job.in_place:
        rows = linked_rows(job.records, entries)
        image = {}
    else:
        bar = tqdm(entries, f"write {SAMPLES_NAME}", unit="shard", disable=None)
        rows = [
            (number, row)
            for number, entry in enumerate(bar)
            for row in read_rows(root / entry.name)
        ]
        image = asdict(job.image)
    if not rows:
        raise DataError(f"{job.split}: no image could be packed; see {root / REJECTED_NAME}")
    samples = samples_array(rows, len(job.class_names))
    described = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "split": job.split,
        "task": job.task,
        "class_names": job.class_names,
        "num_samples": len(samples),
        "num_rejected": sum(len(entry.rejected) for entry in entries),
        "image": {"members": job.image.members, "mode": "RGB", **image},
        "statistics": statistics(samples, entries, len(job.class_names)),
        **({"in_place": True} if job.in_place else {}),
        "command": job.command,
        "identity": identity,
        "shards": entries_as_json(entries),
    }
    described[CHECKSUM] = digest(described)
    contents = {SAMPLES_NAME: npy(samples), INDEX_NAME: to_json(described)}
    if not all(holds(root / name, content) for name, content in contents.items()):
        write_progress(root, identity, entries)
        (root / INDEX_NAME).unlink(missing_ok=True)
        for name, content in contents.items():
            write_atomically(root / name, content)
    (root / PROGRESS_NAME).unlink(missing_ok=True)


def _check_keys(records: Sequence[Record]) -> None:
    seen: dict[str, str] = {}
    for record in records:
        key = sample_key(record.name)
        if key in seen:
            raise DataError(
                f"{record.source} and {seen[key]} would both have the key {key}; rename one of them"
            )
        seen[key] = record.source
