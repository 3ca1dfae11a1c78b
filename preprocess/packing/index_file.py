"""Make samples.npy and index.json from the shards, for the packer and for repair."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from preprocess.packing.resume import Entry
from shards.disk.format import BLOCK_BITS, pack_labels, row_dtype, unpack_labels
from shards.disk.writer import SampleRow

# what index.json calls an image indexed in place; its bytes say whether it is jpeg or png
LINKED_MEMBER = "jpg"


def samples_array(
    rows: Sequence[tuple[int, SampleRow]], num_classes: int, num_members: int = 1
) -> np.ndarray:
    """Make samples.npy of (number of the shard, what its tar says of a sample), in this order.

    `num_members` counts where there is no row.
    """
    if not rows:
        return np.zeros(0, row_dtype(num_classes, num_members, 1))
    num_members = len(rows[0][1].offset)
    samples = np.zeros(
        len(rows), row_dtype(num_classes, num_members, max(len(row.key) for _, row in rows))
    )
    samples["shard"] = [number for number, _ in rows]
    samples["key"] = [row.key.encode() for _, row in rows]
    for name in ("width", "height", "offset", "length"):
        samples[name] = [getattr(row, name) for _, row in rows]
    for name in ("labels", "ignored"):
        samples[name] = [pack_labels(getattr(row, name), num_classes) for _, row in rows]
    return samples


def joined_rows(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate rows whose keys are of different widths; the widest is that of all."""
    widest = max(arrays, key=lambda rows: rows.dtype["key"].itemsize)
    joined = np.zeros(sum(map(len, arrays)), widest.dtype)
    at = 0
    for rows in arrays:
        joined[at : at + len(rows)] = rows
        at += len(rows)
    return joined


def rows_of(samples: np.ndarray, num_classes: int) -> Iterator[SampleRow]:
    """Read rows of samples.npy back, of shards that are indexed in place."""
    for sample in samples:
        labels, ignored = (
            np.flatnonzero(unpack_labels(sample[name], num_classes))
            for name in ("labels", "ignored")
        )
        yield SampleRow(
            # none of ours where it is not ASCII
            key=sample["key"].decode("ascii", "backslashreplace"),
            suffixes=(LINKED_MEMBER,),
            offset=tuple(sample["offset"].tolist()),
            length=tuple(sample["length"].tolist()),
            labels=tuple(labels.tolist()),
            ignored=tuple(ignored.tolist()),
            width=int(sample["width"]),
            height=int(sample["height"]),
        )


def npy(samples: np.ndarray) -> bytes:
    """Spell samples.npy."""
    buffer = io.BytesIO()
    np.save(buffer, samples, allow_pickle=False)
    return buffer.getvalue()


def statistics(samples: np.ndarray, entries: Sequence[Entry], num_classes: int) -> dict[str, Any]:
    """Per-channel mean and std of the packed pixels in units of 1/255, and counts per class."""
    count = sum(entry.num_pixels for entry in entries)
    sums = [sum(channel) for channel in zip(*(entry.pixel_sum for entry in entries), strict=True)]
    squares = [
        sum(channel)
        for channel in zip(*(entry.pixel_sum_squares for entry in entries), strict=True)
    ]
    variances = [
        square / count - (total / count) ** 2 for total, square in zip(sums, squares, strict=True)
    ]
    return {
        "mean": [round(total / count / 255, 6) for total in sums],
        "std": [round(max(variance, 0.0) ** 0.5 / 255, 6) for variance in variances],
        "positives": _counts(samples["labels"], num_classes).tolist(),
        "ignored": _counts(samples["ignored"], num_classes).tolist(),
    }


def _counts(packed: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the set bits of bit-vectors uint8 [N, L] per class: int64 [C]; a block of rows is
    unpacked at a time.
    """
    counts = np.zeros(num_classes, np.int64)
    rows = max(1, BLOCK_BITS // num_classes)
    for start in range(0, len(packed), rows):
        counts += unpack_labels(packed[start : start + rows], num_classes).sum(axis=0)
    return counts
