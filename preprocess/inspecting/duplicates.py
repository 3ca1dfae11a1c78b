"""Find pictures that look alike although their bytes differ: re-encoded, resized, cropped a little,
mirrored.

A picture is shrunk to 32 x 32 grey. The signs of its 64 lowest cosine frequencies are its hash:
brightness and contrast leave them as they are, and a mirror image flips those of the odd horizontal
frequencies and no other. All pairs of hashes are compared, those that differ in few bits are then
compared pixel by pixel.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial

import cv2
import numpy as np
from tqdm import tqdm

from preprocess.inspecting.thumbnails import decode_small
from shards.index import DatasetIndex
from shards.pipeline.reader import ShardReader

SIDE = 32  # pixels of a thumbnail
DECODED_SIDE = 64  # pixels, at least, of the decoded image: libjpeg halves while it can
# of 64; of photographs cropped by 5% more than 99% differ in no more, of unrelated pairs 1 in
# 100,000
MAX_BITS = 12
# mean absolute difference of thumbnails in standard deviations; unrelated pictures have about 1
MAX_DIFFERENCE = 0.35
# grey levels of standard deviation: below, a picture is of one colour and its hash is noise
FLAT = 3.0
MAX_PAIRS = 10_000  # kept, the most alike; all are counted
CHUNK = 64  # images decoded per task
# A block of hash pairs: 4 MB, in the processor's cache.
ROWS = 32
COLUMNS = 16_384


@dataclass(frozen=True)
class Fingerprints:
    """Thumbnails of the samples of several splits, one split after the other, and what follows from
    them.
    """

    thumbnails: np.ndarray  # uint8 [N, 32, 32]
    splits: np.ndarray  # int64 [N] number of the split
    hashes: np.ndarray  # uint64 [N]
    flat: np.ndarray  # bool [N]


@dataclass(frozen=True, order=True)
class Pair:
    """Two pictures that look alike: numbers of rows of `Fingerprints`, first < second."""

    within: bool  # both of one split
    difference: float  # in standard deviations
    bits: int  # in which the hashes differ
    mirrored: bool
    first: int
    second: int


@dataclass
class Duplicates:
    """All pairs that were found, counted, and the most alike of them, between splits first."""

    alike: np.ndarray  # bool [N, S]: picture n looks like another one of split s
    num_between: int = 0  # pairs
    num_within: int = 0
    pairs: list[Pair] = field(default_factory=list)


def take_fingerprints(indexes: Sequence[DatasetIndex], num_threads: int) -> Fingerprints:
    """Decode every sample small. Raises SampleError for one that cannot be decoded."""
    total = sum(index.num_samples for index in indexes)
    thumbnails = np.empty((total, SIDE, SIDE), np.uint8)
    start = 0
    bar = tqdm(total=total, desc="looking at the images", unit="image", leave=False, disable=None)
    with bar, ThreadPoolExecutor(num_threads) as threads:
        for index in indexes:
            reader = ShardReader(index)
            out = thumbnails[start : start + index.num_samples]
            for done in threads.map(partial(_shrink, reader, out), range(0, len(out), CHUNK)):
                bar.update(done)
            start += index.num_samples
    splits = np.repeat(np.arange(len(indexes)), [index.num_samples for index in indexes])
    return Fingerprints(thumbnails, splits, *fingerprint(thumbnails))


def fingerprint(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash thumbnails uint8 [N, 32, 32]: uint64 [N], and whether each is flat: bool [N]."""
    vertical, horizontal = _frequencies()
    waves = _waves(max(vertical.max(), horizontal.max()) + 1)
    hashes = np.empty(len(thumbnails), np.uint64)
    flat = np.empty(len(thumbnails), bool)
    for start in range(0, len(thumbnails), 4096):
        block = thumbnails[start : start + 4096].astype(np.float32)
        signs = (waves @ block @ waves.T)[:, vertical, horizontal] > 0
        hashes[start : start + 4096] = np.ascontiguousarray(np.packbits(signs, axis=1)).view(">u8")[
            :, 0
        ]
        flat[start : start + 4096] = block.std((1, 2)) < FLAT
    return hashes, flat


def find_duplicates(pictures: Fingerprints, num_threads: int) -> Duplicates:
    """Compare all pictures with each other, flat ones left out."""
    ids = np.flatnonzero(~pictures.flat)
    found = Duplicates(np.zeros((len(pictures.splits), int(pictures.splits.max()) + 1), bool))
    hashes = pictures.hashes[ids]
    bar = tqdm(total=len(ids), desc="comparing the images", unit="image", leave=False, disable=None)
    with bar, ThreadPoolExecutor(num_threads) as threads:
        for rows, columns in threads.map(partial(_candidates, hashes), range(0, len(ids), ROWS)):
            for start in range(0, len(rows), 4096):
                _keep_alike(
                    found,
                    pictures,
                    ids[rows[start : start + 4096]],
                    ids[columns[start : start + 4096]],
                )
            bar.update(ROWS)
    found.pairs = sorted(found.pairs)[:MAX_PAIRS]
    return found


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compare thumbnails uint8 [N, 32, 32] with their means and contrasts made equal: float32 [N],
    0 is the same.
    """
    levels = [_standardised(thumbnails) for thumbnails in (first, second)]
    return np.abs(levels[0] - levels[1]).mean((1, 2))


def _shrink(reader: ShardReader, out: np.ndarray, start: int) -> int:
    """Fill thumbnails [start, start + CHUNK) of a split."""
    stop = min(start + CHUNK, reader.index.num_samples)
    for number in range(start, stop):
        grey = decode_small(reader, number, DECODED_SIDE, DECODED_SIDE, "GRAY")
        cv2.resize(grey[..., 0], (SIDE, SIDE), dst=out[number], interpolation=cv2.INTER_AREA)
    return stop - start


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Choose the 64 lowest (vertical, horizontal) frequencies but (0, 0), which is the brightness."""
    vertical, horizontal = np.divmod(np.arange(100), 10)
    lowest = np.argsort(vertical**2 + horizontal**2, kind="stable")[1:65]
    return vertical[lowest], horizontal[lowest]


def _waves(num: int) -> np.ndarray:
    """Sample the first cosines of the DCT-II: float32 [num, 32]."""
    positions = 2 * np.arange(SIDE) + 1
    return np.cos(np.pi * positions * np.arange(num)[:, None] / (2 * SIDE)).astype(np.float32)


@cache
def _mirror_mask() -> np.uint64:
    """The bits of a hash that a mirror image flips."""
    return np.packbits(_frequencies()[1] % 2 == 1).view(">u8").astype(np.uint64)[0]


def _candidates(hashes: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Pair rows [start, start + ROWS) with all later ones whose hash or mirrored hash is near:
    (rows, columns).
    """
    rows = hashes[start : start + ROWS, None]
    found_rows = []
    found_columns = []
    for first in range(start, len(hashes), COLUMNS):
        others = hashes[first : first + COLUMNS]
        near = np.bitwise_count(rows ^ others) <= MAX_BITS
        near |= np.bitwise_count(rows ^ _mirror_mask() ^ others) <= MAX_BITS
        row, column = np.nonzero(near)
        later = row + start < column + first
        found_rows.append(row[later] + start)
        found_columns.append(column[later] + first)
    return np.concatenate(found_rows), np.concatenate(found_columns)


def _keep_alike(
    found: Duplicates, pictures: Fingerprints, first: np.ndarray, second: np.ndarray
) -> None:
    """Compare candidate pairs pixel by pixel, as they are and mirrored; count and keep those that
    are alike.
    """
    one = pictures.thumbnails[first]
    other = pictures.thumbnails[second]
    straight = difference(one, other)
    turned = difference(one[:, :, ::-1], other)
    alike = np.minimum(straight, turned) <= MAX_DIFFERENCE
    first = first[alike]
    second = second[alike]
    straight = straight[alike]
    turned = turned[alike]
    mirrored = turned < straight
    masks = np.where(mirrored, _mirror_mask(), np.uint64(0))
    bits = np.bitwise_count(pictures.hashes[first] ^ masks ^ pictures.hashes[second])
    within = pictures.splits[first] == pictures.splits[second]
    found.alike[first, pictures.splits[second]] = True
    found.alike[second, pictures.splits[first]] = True
    found.num_within += int(within.sum())
    found.num_between += int((~within).sum())
    columns = (
        within,
        np.minimum(straight, turned).astype(float).round(3),
        bits,
        mirrored,
        first,
        second,
    )
    found.pairs += [
        Pair(*values) for values in zip(*(column.tolist() for column in columns), strict=True)
    ]
    if len(found.pairs) > 4 * MAX_PAIRS:
        found.pairs = sorted(found.pairs)[:MAX_PAIRS]


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    levels = thumbnails.astype(np.float32)
    levels -= levels.mean((1, 2), keepdims=True)
    return levels / np.maximum(levels.std((1, 2), keepdims=True), FLAT)
