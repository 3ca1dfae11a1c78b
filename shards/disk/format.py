"""The format on disk, versions 1 and 2; docs/format.md is its home. Names, row layout, bit-vectors,
nothing else.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

FORMAT_NAME = "tarmac"
FORMAT_VERSION = 1
TABLES_VERSION = 2  # shards and samples in tables of their own, index.json without them
INDEX_NAME = "index.json"  # written last: a folder without it is unfinished
PROGRESS_NAME = "packing.json"  # the index of an unfinished folder
FINISHED_NAME = "packing"  # folder: while packing, what each finished shard holds
SAMPLES_NAME = "samples.npy"
# of version 2: samples without their keys, the keys, the shards, and what the packer alone needs.
# No name is one of version 1: a folder is one or the other by its index.json.
ROWS_NAME = "rows.npy"
KEYS_NAME = "keys.npy"
SHARDS_NAME = "shards.npy"
ENTRIES_NAME = "entries.json"
TABLE_NAMES = (ROWS_NAME, KEYS_NAME, SHARDS_NAME, ENTRIES_NAME)
REJECTED_NAME = "rejected.jsonl"  # images that could not be packed
ACCEPTED_NAME = "accepted.jsonl"  # damaged images that were packed, as --accept-damaged says
DAMAGED_NAME = "damaged"  # folder of what repair has moved out of the way
# what a member's name ends in; further bands have their name before it: nir.jpg
IMAGE_SUFFIXES = ("jpg", "png")
BLOCK = 512  # bytes of a tar header; members are filled up to multiples of it
MAX_STORED_SIDE = 0xFFFF  # of an image: what samples.npy has room for
MAX_PIXELS = 100_000_000  # of one image; what claims more is refused, before memory is taken for it
BLOCK_BITS = 1 << 24  # labels unpacked at a time; co-occurrences of a block stay exact in float32
TILES_MARKER = 0xE9  # APP9: the JPEG segment that lists the length of every tile
TILES_NAME = b"TILES\0"
MAX_TILES = (0xFFFF - 2 - len(TILES_NAME)) // 2  # what a segment has room for, at two bytes a tile


CHECKSUM = "checksum"  # of all that index.json says besides
CONTENTS = "contents"  # of version 2: digests of rows and keys, so that nobody need read them all


def digest(content: Any) -> str:
    """Hash anything JSON can hold."""
    return hashlib.sha256(
        json.dumps(content, ensure_ascii=False).encode(errors="backslashreplace")
    ).hexdigest()


def holds_together(described: dict[str, Any]) -> bool:
    """Tell whether a description has the checksum that it names; an older one names none."""
    rest = {name: value for name, value in described.items() if name != CHECKSUM}
    return CHECKSUM not in described or described[CHECKSUM] == digest(rest)


def shard_name(split: str, number: int) -> str:
    """Name shard `number` of a split."""
    return f"{split}-{number:06d}.tar"


def num_label_bytes(num_classes: int) -> int:
    """Count the bytes of a bit-vector of `num_classes` labels."""
    return (num_classes + 7) // 8


def row_dtype(num_classes: int, num_members: int, key_bytes: int) -> np.dtype[Any]:
    """Lay out one row of samples.npy: where a sample's bytes are and what is known of it.

    `offset` and `length` hold one value per image member; `labels` and `ignored` are big-endian
    bit-vectors.
    """
    label_bytes = (num_label_bytes(num_classes),)
    return np.dtype(
        [
            ("shard", "<u4"),
            ("width", "<u2"),
            ("height", "<u2"),
            ("offset", "<u8", (num_members,)),
            ("length", "<u4", (num_members,)),
            ("labels", "u1", label_bytes),
            ("ignored", "u1", label_bytes),
            ("key", f"S{max(1, key_bytes)}"),
        ]
    )


# One shard of version 2. `rows_crc` and `keys_crc` are of its part of rows.npy and of keys.npy.
SHARD_DTYPE = np.dtype(
    [
        ("bytes", "<u8"),
        ("num_samples", "<u4"),
        ("rows_crc", "<u4"),
        ("keys_crc", "<u4"),
        ("sha256", "u1", (32,)),
    ]
)


def lean_row_dtype(num_classes: int, num_members: int) -> np.dtype[Any]:
    """Lay out one row of rows.npy: as of samples.npy, with a CRC-32 of each image, without a key."""
    fields = row_dtype(num_classes, num_members, 1).descr[:-1]
    place = [name for name, *_ in fields].index("length") + 1
    return np.dtype([*fields[:place], ("crc", "<u4", (num_members,)), *fields[place:]])


def pack_labels(indices: Iterable[int], num_classes: int) -> np.ndarray:
    """Turn class indices into a bit-vector uint8 [ceil(C/8)]."""
    bits = np.zeros(num_classes, bool)
    bits[list(indices)] = True
    return np.packbits(bits)


def unpack_labels(packed: np.ndarray, num_classes: int) -> np.ndarray:
    """Turn bit-vectors uint8 [N, ceil(C/8)] into bool [N, C]."""
    return np.unpackbits(packed, axis=-1, count=num_classes).view(bool)


def write_atomically(path: Path, data: bytes | memoryview, shared: bool = False) -> None:
    """Write a whole file or none: temporary name, fsync, rename. A failure leaves what was there.

    `shared`: other processes may write the same file at the same time, so the temporary name is
    this call's own.
    """
    own = f".{secrets.token_hex(6)}" if shared else ""
    temporary = path.with_name(f"{path.name}{own}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # write and fsync do not name the file
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_folder(path.parent)


def finished_name(name: str) -> str:
    """Name the file that a temporary one would have become; "" for any other name."""
    found = re.fullmatch(r"(.+?)(?:\.[0-9a-f]{12})?\.tmp", name)
    return found[1] if found else ""


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable, where the system lets folders be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
