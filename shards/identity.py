"""What a split holds, in a few short values: so that a run goes on with the data that it began
with.

Equal wherever a set is moved to or repaired, and in shards of any size: it is of keys, labels and
images, in order.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shards.disk.tables import Rows, Shard, ShardTable
from shards.index import DatasetIndex

BLOCK = 1 << 20  # rows at once: of 100 million they would take gigabytes
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits spread (Knuth): a key's words differ by their place
DIGEST_BYTES = 16
# in hex, of what index.json tells of its rows and keys
LENGTHS = {"keys": 16, "order": 32, "labels": 32, "images": 32}
TOLERANCE = 2e-6  # of mean and std, which index.json rounds to 1e-6

Identity = dict[str, Any]


def identity(index: DatasetIndex) -> Identity:
    """Describe a split by digests of its parts, those that index.json has of its rows and keys.

    An index.json of version 1 has none: then they are all read, a second or so for ten million.
    `shards` is of the tars' checksums.
    """
    return {
        "class_names": hashlib.blake2b(
            repr(index.class_names).encode(), digest_size=16
        ).hexdigest(),
        "num_samples": index.num_samples,
        **(_told(index.contents) or content_digests(index.samples, index.key_bytes)),
        "mean": list(index.statistics.get("mean", ())),
        "std": list(index.statistics.get("std", ())),
        "shards": _shards_digest(index.shards),
    }


def content_digests(rows: Rows, keys: np.ndarray) -> dict[str, str]:
    """Hash the keys of a split, in any order and in theirs, its labels, and its images: of these
    sizes and lengths in bytes, as the bytes themselves are behind the checksums of the shards.

    `rows` are those of samples.npy or rows.npy [N], `keys` bytes [N].
    """
    order, labels, images = (hashlib.blake2b(digest_size=DIGEST_BYTES) for _ in range(3))
    any_order = 0
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        hashed = _hash_keys(keys[start : start + BLOCK])
        any_order = (any_order + int(hashed.sum(dtype=np.uint64))) % 2**64
        order.update(hashed.tobytes())
        for name in ("labels", "ignored"):
            labels.update(np.ascontiguousarray(part[name]).tobytes())
        for name in ("width", "height", "length"):
            images.update(np.ascontiguousarray(part[name]).tobytes())
    digests = {"order": order, "labels": labels, "images": images}
    return {
        "keys": f"{any_order:016x}",
        **{name: value.hexdigest() for name, value in digests.items()},
    }


def _told(contents: Any) -> dict[str, str] | None:
    """Return the digests that index.json tells, if they are such: another release may tell others."""
    if not isinstance(contents, dict) or contents.keys() != LENGTHS.keys():
        return None
    is_digest = all(
        isinstance(contents[name], str) and len(contents[name]) == num
        for name, num in LENGTHS.items()
    )
    return {name: contents[name] for name in LENGTHS} if is_digest else None


def _shards_digest(shards: Sequence[Shard]) -> str:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if isinstance(shards, ShardTable):
        digest.update(shards.table["sha256"].tobytes())
    else:
        for shard in shards:
            digest.update(bytes.fromhex(shard.sha256))
    return digest.hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs between two identities in a way that makes another split; empty where it is
    the same.

    What follows from a difference is left out: of other keys the labels differ, too.
    """
    if before["class_names"] != now["class_names"]:
        return ["class names"]
    if before["num_samples"] != now["num_samples"]:
        return [f"number of samples ({before['num_samples']}, now {now['num_samples']})"]
    if before["keys"] != now["keys"]:
        return ["keys of the samples"]
    if before["order"] != now["order"]:
        return ["order of the samples"]
    found = [name for name in ("labels", "images") if before[name] != now[name]]
    if not found and not all(_close(before[name], now[name]) for name in ("mean", "std")):
        found.append("statistics of the pixels")
    return found


def _close(before: list[float], now: list[float]) -> bool:
    return len(before) == len(now) and np.allclose(before, now, rtol=0, atol=TOLERANCE)


def _hash_keys(keys: np.ndarray) -> np.ndarray:
    """Hash keys of any width, uint64 [N]; the zeros behind a short key change nothing."""
    width = -(-keys.dtype.itemsize // 8) * 8
    words = keys.astype(f"S{width}").view("<u8").reshape(len(keys), -1)
    hashed = np.zeros(len(keys), np.uint64)
    factor = 1
    for column in words.T:
        factor = factor * MULTIPLIER % 2**64
        mixed = column * np.uint64(factor)
        hashed += mixed ^ (mixed >> np.uint64(31))
    return (hashed ^ (hashed >> np.uint64(29))) * np.uint64(MULTIPLIER)
