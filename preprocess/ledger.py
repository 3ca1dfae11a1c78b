"""What of a split is finished: told by index.json or, while packing goes on, by packing.json; verified before kept."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.record import Record
from shards.errors import DataError
from shards.format import DAMAGED_NAME, FORMAT_NAME, INDEX_NAME, PROGRESS_NAME, write_atomically
from shards.writer import dali_index, file_sha256


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
    num_pixels: int
    pixel_sum: list[int]  # one per channel
    pixel_sum_squares: list[int]
    rejected: list[dict[str, str]]


def previous_entries(root: Path, identity: str) -> list[Entry]:
    """List the shards an earlier run finished here. Raises DataError where the folder holds anything else."""
    path = next((root / name for name in (INDEX_NAME, PROGRESS_NAME) if (root / name).exists()), None)
    if path is None:
        # packing.json is written before the first shard: a tar beside none of the two is somebody else's.
        ours = (PROGRESS_NAME + ".tmp", DAMAGED_NAME)
        foreign = [child.name for child in root.iterdir() if child.name not in ours]
        if foreign:
            raise DataError(f"{root}: holds files that are no dataset, such as {min(foreign)}; choose another --out")
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


def is_intact(root: Path, entry: Entry, records: Sequence[Record]) -> bool:
    """Tell whether a shard is there to the last byte and its inputs are still the same."""
    path = root / entry.name
    last = entry.first_record + entry.num_records
    return (
        path.is_file()
        and path.stat().st_size == entry.bytes
        and inputs(records[entry.first_record : last]) == entry.inputs
        and file_sha256(path) == entry.sha256
        and holds(path.with_suffix(".idx"), dali_index(path))
    )


def inputs(records: Sequence[Record]) -> str:
    """Hash what goes into a shard: names, labels and file sizes; reading the images would cost as much as packing."""
    return digest([(r.name, r.labels, r.ignored, r.num_bytes()) for r in records])


def holds(path: Path, content: bytes) -> bool:
    """Tell whether a file is there with this content."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False


def remove_surplus(root: Path, split: str, num_shards: int) -> None:
    """Remove shards of an earlier, longer packing and what a killed one left half-written."""
    ours = re.compile(re.escape(split) + r"-(\d{6,})\.(tar|idx)(\.tmp)?")
    for path in root.iterdir():
        found = ours.fullmatch(path.name)
        if found and (found[3] or int(found[1]) >= num_shards):
            path.unlink()


def write_progress(root: Path, identity: str, entries: Iterable[Entry]) -> None:
    """Write packing.json: which shards are finished, so that a killed packing keeps them."""
    write_atomically(root / PROGRESS_NAME, to_json({"identity": identity, "shards": plain(entries)}))


def rejected_lines(entries: Iterable[Entry]) -> bytes:
    """Spell rejected.jsonl: what of all shards could not be packed."""
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for entry in entries for line in entry.rejected]
    return "".join(lines).encode(errors="backslashreplace")


def plain(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Turn entries into what JSON holds."""
    return [asdict(entry) for entry in entries]


def to_json(described: dict[str, Any]) -> bytes:
    """Write JSON for people and programs: indented, the same bytes for the same content."""
    return (json.dumps(described, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def digest(content: Any) -> str:
    """Hash anything JSON can hold."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode(errors="backslashreplace")).hexdigest()
