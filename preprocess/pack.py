"""Write one split: shards, then samples.npy, then index.json. What is finished is verified and kept."""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from preprocess.image import ImageOptions, Packed
from preprocess.keys import sample_key
from preprocess.pool import Pool, Result
from preprocess.record import Record
from shards.errors import DataError
from shards.format import (
    FORMAT_NAME,
    FORMAT_VERSION,
    INDEX_NAME,
    PROGRESS_NAME,
    SAMPLES_NAME,
    pack_labels,
    row_dtype,
    shard_name,
    unpack_labels,
    write_atomically,
)
from shards.writer import Row, Sample, ShardWriter, file_sha256, read_rows

REJECTED_NAME = "rejected.jsonl"


@dataclass(frozen=True)
class Job:
    """One split to pack. `command` is what index.json tells of how it was made."""

    split: str
    class_names: tuple[str, ...]
    records: Sequence[Record]
    image: ImageOptions
    shard_bytes: int
    shard_samples: int  # 0: no limit
    max_rejects: int
    command: str

    def identity(self) -> str:
        """Hash what makes this dataset this one and not another: names, labels and options, not the pixels."""
        content = [self.split, self.class_names, asdict(self.image), self.shard_bytes, self.shard_samples]
        records = [(r.name, r.source, r.labels, r.ignored) for r in self.records]
        return _digest([FORMAT_VERSION, *content, records])


@dataclass(frozen=True)
class Entry:
    """A finished shard as index.json lists it, with what is needed to know it again.

    Records `first_record` up to `first_record + num_records` of the source went into it; `inputs` is a hash of them
    and of their file sizes. Pixel sums are exact integers, so statistics do not depend on the order of summing.
    """

    name: str
    bytes: int
    num_samples: int
    sha256: str
    first_record: int
    num_records: int
    inputs: str
    num_pixels: int = 0
    pixel_sum: list[int] = field(default_factory=lambda: [0, 0, 0])
    pixel_sum_squares: list[int] = field(default_factory=lambda: [0, 0, 0])
    rejected: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Packing:
    """What a run did for one split."""

    num_samples: int
    num_shards: int
    num_kept: int
    num_rejected: int
    num_bytes: int


def pack_split(job: Job, root: Path, pool: Pool) -> Packing:
    """Pack a split into folder `root`; raise DataError past `max_rejects` or where `root` holds something else."""
    _check_keys(job.records)
    root.mkdir(parents=True, exist_ok=True)
    identity = job.identity()
    previous = _previous_entries(root, identity)
    finished = (root / INDEX_NAME).exists()
    kept = {
        entry.name: entry
        for entry in tqdm(previous, "verify", unit="shard", disable=None if previous else True)
        # Rejects that were not put up with get another chance: the image or the disk may have been mended.
        if (finished or not entry.rejected) and _is_intact(root, entry, job.records)
    }
    if not (finished and len(kept) == len(previous)):
        (root / INDEX_NAME).unlink(missing_ok=True)
        entries, known = [], dict(kept)
        for entry in _shards(job, root, pool, kept):
            entries.append(entry)
            known[entry.name] = entry
            write_atomically(root / PROGRESS_NAME, _json({"identity": identity, "shards": _plain(known.values())}))
    else:
        entries = previous
    num_rejected = _write_rejected(root, entries)
    if num_rejected > job.max_rejects:
        raise DataError(
            f"{num_rejected} of {len(job.records)} images of {job.split} were rejected, --max-rejects is "
            f"{job.max_rejects}: see {root / REJECTED_NAME}; mend them, or run again with --max-rejects {num_rejected}"
        )
    if not (root / INDEX_NAME).exists():
        _finish(job, root, entries, identity)
    return Packing(
        num_samples=sum(entry.num_samples for entry in entries),
        num_shards=len(entries),
        num_kept=sum(kept.get(entry.name) == entry for entry in entries),
        num_rejected=num_rejected,
        num_bytes=sum(entry.bytes for entry in entries),
    )


def _shards(job: Job, root: Path, pool: Pool, kept: dict[str, Entry]) -> Iterator[Entry]:
    """Yield the entries of all shards in order, writing those that are not kept."""
    at, number = 0, 0
    results: Iterator[Result] | None = None
    with tqdm(total=len(job.records), desc=f"pack {job.split}", unit="img", disable=None) as bar:
        while at < len(job.records):
            entry = kept.get(shard_name(job.split, number))
            if entry is not None and entry.first_record == at:
                results = None
            else:
                results = results or pool.pack(job.records[at:], job.image)
                entry = _write_shard(job, root / shard_name(job.split, number), at, results, bar)
            at += entry.num_records
            bar.update(at - bar.n)
            number += 1
            yield entry
    _remove_surplus(root, job.split, number)


def _write_shard(job: Job, path: Path, first: int, results: Iterator[Result], bar: tqdm) -> Entry:
    writer = ShardWriter(path)
    rejected: list[dict[str, str]] = []
    num_pixels, sums, squares = 0, [0, 0, 0], [0, 0, 0]
    at = first
    try:
        while at < len(job.records) and not _is_full(job, writer):
            record, result = job.records[at], next(results)
            at += 1
            bar.update()
            if isinstance(result, str):
                rejected.append({"source": record.source, "reason": result})
                continue
            writer.add(_sample(record, result))
            num_pixels += result.width * result.height
            sums = [a + b for a, b in zip(sums, result.pixel_sum, strict=True)]
            squares = [a + b for a, b in zip(squares, result.pixel_sum_squares, strict=True)]
        num_bytes, sha256 = writer.num_bytes, writer.close()
    except BaseException:
        writer.abort()
        raise
    inputs = _inputs(job.records[first:at])
    return Entry(
        path.name, num_bytes, len(writer.rows), sha256, first, at - first, inputs, num_pixels, sums, squares, rejected
    )


def _sample(record: Record, packed: Packed) -> Sample:
    return Sample(
        key=sample_key(record.name),
        images={"jpg": packed.data},
        labels=record.labels,
        ignored=record.ignored,
        width=packed.width,
        height=packed.height,
        source=record.source,
    )


def _is_full(job: Job, writer: ShardWriter) -> bool:
    num_samples = len(writer.rows)
    return num_samples > 0 and (
        writer.num_bytes >= job.shard_bytes or (job.shard_samples > 0 and num_samples >= job.shard_samples)
    )


def _finish(job: Job, root: Path, entries: list[Entry], identity: str) -> None:
    """Write samples.npy from what the shards hold, then index.json, the mark of a finished folder."""
    rows = [(number, row) for number, entry in enumerate(entries) for row in read_rows(root / entry.name)]
    if not rows:
        raise DataError(f"{job.split}: no image could be packed; see {root / REJECTED_NAME}")
    samples = _samples_array(rows, len(job.class_names))
    buffer = io.BytesIO()
    np.save(buffer, samples, allow_pickle=False)
    write_atomically(root / SAMPLES_NAME, buffer.getbuffer())
    described = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "split": job.split,
        "task": "multilabel",
        "class_names": job.class_names,
        "num_samples": len(samples),
        "num_rejected": sum(len(entry.rejected) for entry in entries),
        "image": {"members": ["jpg"], "mode": "RGB", **asdict(job.image)},
        "statistics": _statistics(samples, entries, len(job.class_names)),
        "command": job.command,
        "identity": identity,
        "shards": _plain(entries),
    }
    write_atomically(root / INDEX_NAME, _json(described))
    (root / PROGRESS_NAME).unlink(missing_ok=True)


def _samples_array(rows: list[tuple[int, Row]], num_classes: int) -> np.ndarray:
    samples = np.zeros(len(rows), row_dtype(num_classes, 1, max(len(row.key) for _, row in rows)))
    samples["shard"] = [number for number, _ in rows]
    samples["key"] = [row.key.encode() for _, row in rows]
    for name in ("width", "height", "offset", "length"):
        samples[name] = [getattr(row, name) for _, row in rows]
    for name in ("labels", "ignored"):
        samples[name] = [pack_labels(getattr(row, name), num_classes) for _, row in rows]
    return samples


def _statistics(samples: np.ndarray, entries: list[Entry], num_classes: int) -> dict[str, Any]:
    """Per-channel mean and std of the packed pixels in units of 1/255, and counts per class."""
    count = sum(entry.num_pixels for entry in entries)
    sums = [sum(entry.pixel_sum[c] for entry in entries) for c in range(3)]
    squares = [sum(entry.pixel_sum_squares[c] for entry in entries) for c in range(3)]
    variances = [square / count - (total / count) ** 2 for total, square in zip(sums, squares, strict=True)]
    return {
        "mean": [round(total / count / 255, 6) for total in sums],
        "std": [round(max(variance, 0.0) ** 0.5 / 255, 6) for variance in variances],
        "positives": unpack_labels(samples["labels"], num_classes).sum(axis=0).tolist(),
        "ignored": unpack_labels(samples["ignored"], num_classes).sum(axis=0).tolist(),
    }


def _previous_entries(root: Path, identity: str) -> list[Entry]:
    path = next((root / name for name in (INDEX_NAME, PROGRESS_NAME) if (root / name).exists()), None)
    if path is None:
        if any(root.iterdir()) and not all(child.name.endswith((".tmp", ".tar", ".idx")) for child in root.iterdir()):
            raise DataError(f"{root}: holds files that are no dataset; choose another --out")
        return []
    try:
        described = json.loads(path.read_bytes())
        if described.get("format", FORMAT_NAME) == FORMAT_NAME and described["identity"] == identity:
            return [Entry(**entry) for entry in described["shards"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove {root} or choose another --out") from error
    raise DataError(
        f"{root}: holds another dataset, or this one with other options; choose another --out, or remove it first"
    )


def _is_intact(root: Path, entry: Entry, records: Sequence[Record]) -> bool:
    path = root / entry.name
    last = entry.first_record + entry.num_records
    return (
        path.is_file()
        and path.with_suffix(".idx").is_file()
        and path.stat().st_size == entry.bytes
        and _inputs(records[entry.first_record : last]) == entry.inputs
        and file_sha256(path) == entry.sha256
    )


def _inputs(records: Sequence[Record]) -> str:
    return _digest([(r.name, r.labels, r.ignored, r.path.stat().st_size) for r in records])


def _check_keys(records: Sequence[Record]) -> None:
    seen: dict[str, str] = {}
    for record in records:
        key = sample_key(record.name)
        if key in seen:
            raise DataError(f"{record.source} and {seen[key]} would both have the key {key}; rename one of them")
        seen[key] = record.source


def _write_rejected(root: Path, entries: list[Entry]) -> int:
    rejected = [line for entry in entries for line in entry.rejected]
    if rejected or (root / REJECTED_NAME).exists():
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rejected)
        write_atomically(root / REJECTED_NAME, lines.encode())
    return len(rejected)


def _remove_surplus(root: Path, split: str, num_shards: int) -> None:
    """Remove shards of an earlier, longer packing and what a killed one left half-written."""
    wanted = {shard_name(split, number) for number in range(num_shards)}
    for path in root.iterdir():
        if path.suffix == ".tmp" or (path.suffix in (".tar", ".idx") and path.stem + ".tar" not in wanted):
            path.unlink()


def _plain(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    return [asdict(entry) for entry in entries]


def _json(described: dict[str, Any]) -> bytes:
    return (json.dumps(described, indent=1, ensure_ascii=False) + "\n").encode()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
