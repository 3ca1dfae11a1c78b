"""What a split's metadata say, to be read and changed in a test, of either version of the format."""

import hashlib
import json
from pathlib import Path
from typing import Any

from preprocess.packing.index_tables import listed_entries
from shards.disk.format import CHECKSUM, ENTRIES_NAME, INDEX_NAME, PROGRESS_NAME, digest


def listed(root: Path) -> dict[str, Any]:
    """Read index.json, with the shards that version 2 lists in entries.json."""
    described = json.loads((root / INDEX_NAME).read_bytes())
    return {**described, "shards": listed_entries(root, described)}


def write_listed(root: Path, described: dict[str, Any], checksum: bool = True) -> None:
    """Write what `listed` has read; with `checksum` as somebody would who knows of the checksums."""
    told = dict(described)
    if "tables" in told:
        data = json.dumps({"shards": told.pop("shards")}).encode()
        (root / ENTRIES_NAME).write_bytes(data)
        if checksum:
            of_file = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            told["tables"] = {**told["tables"], ENTRIES_NAME: of_file}
    if checksum:
        told.pop(CHECKSUM, None)
        told[CHECKSUM] = digest(told)
    (root / INDEX_NAME).write_text(json.dumps(told, indent=1))


def make_unfinished(root: Path, shards: slice | list[int] = slice(None)) -> None:
    """Make a split one whose packing was stopped when these of its shards were finished."""
    described = listed(root)
    entries = described["shards"]
    kept = entries[shards] if isinstance(shards, slice) else [entries[n] for n in shards]
    (root / INDEX_NAME).unlink()
    progress = {"identity": described["identity"], "shards": kept}
    (root / PROGRESS_NAME).write_text(json.dumps(progress))
