"""Finished shards as they are listed, and how they are verified before they are kept."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from preprocess.images.outcome import DAMAGED
from preprocess.record import Record
from shards.disk.format import (
    ACCEPTED_NAME,
    PROGRESS_NAME,
    REJECTED_NAME,
    SAMPLES_NAME,
    TABLE_NAMES,
    digest,
    finished_name,
    shard_name,
    write_atomically,
)
from shards.disk.writer import dali_index, file_sha256
from shards.errors import count_of


@dataclass(frozen=True)
class Entry:
    """A finished shard as index.json lists it, with what is needed to know it again.

    Records `first_record` up to `first_record + num_records` of the source went into it; `inputs`
    is a hash of them and of their file sizes. Pixel sums are exact integers, so statistics do not
    depend on the order of summing.
    """

    name: str
    bytes: int
    num_samples: int
    sha256: str
    first_record: int
    num_records: int
    inputs: str
    num_pixels: int
    pixel_sum: list[int]  # one per channel
    pixel_sum_squares: list[int]
    rejected: list[dict[str, str]]
    accepted: list[dict[str, str]] = field(default_factory=list)  # damaged, but packed all the same

    @property
    def num_damaged(self) -> int:
        """Count the rejects that --accept-damaged would pack."""
        return sum(str(line.get("reason")).startswith(DAMAGED) for line in self.rejected)


def read_entries(split: str, shards: Iterable[dict[str, Any]]) -> list[Entry]:
    """Make entries of what JSON holds. Raises ValueError, KeyError or TypeError for what no entry
    can be.

    Hashes are compared later; numbers are used, so their types and signs are checked, and that sums
    can be of so many pixels.
    """
    entries = [Entry(**values) for values in shards]
    kinds: dict[Any, type] = {int: int, str: str}
    for entry in entries:
        for each in fields(Entry):
            value: Any = getattr(entry, each.name)
            if type(value) is not kinds.get(each.type, list) or (
                isinstance(value, int) and value < 0
            ):
                raise ValueError(f"{each.name} of a shard is {value!r}")
        if not re.fullmatch(re.escape(split) + r"-\d{6,}\.tar", entry.name):
            raise ValueError(f"a shard of {split} is called {entry.name!r}")
        if entry.num_records != entry.num_samples + len(entry.rejected):
            raise ValueError(
                f"{entry.name} has {count_of(entry.num_records, 'record')} and "
                f"{count_of(entry.num_samples, 'sample')}"
            )
        for sums, most in ((entry.pixel_sum, 255), (entry.pixel_sum_squares, 255**2)):
            if not all(
                type(total) is int and 0 <= total <= most * entry.num_pixels for total in sums
            ):
                raise ValueError(f"the sums of {entry.name}'s pixels are {sums!r}")
        lines = [*entry.rejected, *entry.accepted]
        if not all(
            isinstance(line, dict) and isinstance(line.get("source"), str) for line in lines
        ):
            raise ValueError(
                f"what {entry.name} lists as rejected or accepted are no sources and reasons"
            )
        if (entry.num_pixels > 0) != (entry.num_samples > 0):
            raise ValueError(
                f"{entry.name} has {count_of(entry.num_pixels, 'pixel')} in "
                f"{count_of(entry.num_samples, 'sample')}"
            )
    if (
        len({len(sums) for entry in entries for sums in (entry.pixel_sum, entry.pixel_sum_squares)})
        > 1
    ):
        raise ValueError("shards have different numbers of channels")
    return entries


def why_no_sequence(split: str, entries: Sequence[Entry]) -> str | None:
    """Tell what keeps entries from being those of a whole split: shards from 0 that follow on each
    other's records.
    """
    at = 0
    for number, entry in enumerate(entries):
        if entry.name != shard_name(split, number):
            return f"shard {number} is {entry.name!r}, not {shard_name(split, number)}"
        if entry.first_record != at:
            return f"{entry.name} starts at record {entry.first_record}, not at {at}"
        at += entry.num_records
    return None if any(entry.num_samples for entry in entries) else "its shards hold no sample"


def is_of(root: Path, entry: Entry, records: Sequence[Record]) -> bool:
    """Tell whether a shard of these records is there, its inputs still the same."""
    return (
        entry.num_records == len(records)
        and is_there(root, entry)
        and inputs(records) == entry.inputs
        and not _was_replaced(records, root / entry.name)
    )


def is_intact(root: Path, entry: Entry, records: Sequence[Record]) -> bool:
    """Tell whether a shard of these records is there to the last byte, its inputs still the same."""
    path = root / entry.name
    return (
        is_of(root, entry, records)
        and file_sha256(path) == entry.sha256
        and holds(path.with_suffix(".idx"), dali_index(path))
    )


def is_there(root: Path, entry: Entry) -> bool:
    """Tell whether a shard is there with its size; its bytes are not read."""
    path = root / entry.name
    return path.is_file() and path.stat().st_size == entry.bytes


def inputs(records: Sequence[Record]) -> str:
    """Hash what goes into a shard: names, labels and file sizes; reading the images would cost as
    much as packing.
    """
    return inputs_digest(records, [record.num_bytes() for record in records])


def inputs_digest(records: Sequence[Record], sizes: Sequence[int]) -> str:
    """Hash records whose files have these sizes."""
    pairs = zip(records, sizes, strict=True)
    return digest([(r.name, r.labels, r.ignored, size) for r, size in pairs])


def _was_replaced(records: Sequence[Record], shard: Path) -> bool:
    """Tell whether a file of the source was written after the shard, as make does.

    Sizes do not tell: all BMPs and plain TIFFs of one size in pixels have the same. A source that
    was copied again costs packing it again, to the same bytes.
    """
    made = shard.stat().st_mtime_ns
    return any(
        _mtime_ns(path) > made
        for path in {record.path for record in records if record.data is None}
    )


def _mtime_ns(path: Path) -> int:
    """Tell when a file was changed last; -1 where it is not there, as when the shard was made."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def holds(path: Path, content: bytes) -> bool:
    """Tell whether a file is there with this content."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False


def remove_surplus(root: Path, split: str, num_shards: int) -> None:
    """Remove shards of an earlier, longer packing and what a killed one left half-written."""
    ours = re.compile(re.escape(split) + r"-(\d{6,})\.(tar|idx)")
    ours_too = (PROGRESS_NAME, SAMPLES_NAME, *TABLE_NAMES)
    for path in root.iterdir():
        whole = finished_name(path.name)
        found = ours.fullmatch(whole or path.name)
        half = whole and (found or whole in ours_too)
        if half or (found and int(found[1]) >= num_shards):
            path.unlink(missing_ok=True)


def lists_of(entries: Sequence[Entry]) -> dict[str, bytes]:
    """Spell rejected.jsonl, what of all shards could not be packed, and accepted.jsonl, what is
    damaged in them.
    """
    listed = {
        REJECTED_NAME: [line for entry in entries for line in entry.rejected],
        ACCEPTED_NAME: [line for entry in entries for line in entry.accepted],
    }
    return {
        name: "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode(
            errors="backslashreplace"
        )
        for name, lines in listed.items()
    }


def write_lists(root: Path, entries: Sequence[Entry]) -> None:
    """Write rejected.jsonl and accepted.jsonl; where they would be empty, remove them."""
    for name, lines in lists_of(entries).items():
        if lines:
            write_atomically(root / name, lines)
        else:
            (root / name).unlink(missing_ok=True)


def entries_as_json(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Turn entries into what JSON holds; `accepted` is there only where anything was."""
    described = [asdict(entry) for entry in entries]
    return [
        {name: value for name, value in entry.items() if value or name != "accepted"}
        for entry in described
    ]


def to_json(described: dict[str, Any]) -> bytes:
    """Write JSON for people and programs: indented, the same bytes for the same content."""
    return (json.dumps(described, indent=1, ensure_ascii=False) + "\n").encode(
        errors="backslashreplace"
    )
