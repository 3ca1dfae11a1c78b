"""The plan of a packing: records in an order of their own, cut into shards before one is packed.

It is a function of the records and the options. Any engine can follow it, in any order of shards.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from preprocess.images.geometry import ImageOptions
from preprocess.packing.keys import sample_key
from preprocess.packing.listing import SpooledRecords, key_hash, record_digest
from preprocess.packing.pieces import pilot
from preprocess.packing.pool import Pool
from preprocess.record import MAX_CLASSES, Record
from shards.disk.format import FORMAT_VERSION, digest, shard_name
from shards.errors import DataError, count_of
from shards.index import Task

PACKER_VERSION = 2  # goes up where the same records and options give other bytes
MOST_PILOTS = 256  # their mean is off by 2% (one sigma), as packed sizes vary by 0.37 of theirs
FEWEST_PILOTS = 16
PILOT_SHARE = 32  # one record in so many at most is packed twice
MOST_UNMEASURED = 256
MOST_GROWTH = 8  # packed bytes of a file's, at most, where a small set goes unmeasured
Order = Literal["shuffled", "source"]


@dataclass(frozen=True)
class Job:
    """One split to pack. `command` is stored in index.json. Raises DataError for a number of
    classes out of range: every sample has a bit for each, in memory a byte.
    """

    split: str
    class_names: tuple[str, ...]
    records: Sequence[Record]
    image: ImageOptions
    shard_bytes: int  # what a shard's mean aims at
    shard_samples: int  # records of a shard; 0: as many as make shard_bytes
    max_rejects: int
    command: str
    task: Task = "multilabel"
    in_place: bool = False  # the records are in tars, which are linked to and indexed instead
    accept_damaged: bool = False  # JPEGs that have lost pixels are packed and listed, not rejected
    order: Order = "shuffled"
    append: bool = False  # the records that are not in a finished split become new shards of it
    divided: bool = False  # train and val are drawn from one split of the source

    def __post_init__(self) -> None:
        if len(self.class_names) > MAX_CLASSES:
            raise DataError(
                f"the source has {count_of(len(self.class_names), 'class')}, such as "
                f"{self.class_names[-1]!r}; {MAX_CLASSES:,} are the most: are these numbers or "
                "texts instead of classes?"
            )

    def options_digest(self) -> str:
        """Hash what decides the bytes of shards besides the records."""
        content = [self.split, self.task, self.class_names, asdict(self.image)]
        cut = [self.shard_samples or self.shard_bytes, bool(self.shard_samples), self.order]
        more = ["in place"] if self.in_place else []
        return digest([FORMAT_VERSION, PACKER_VERSION, *content, *cut, *more])


@dataclass(frozen=True)
class PackedPart:
    """One packing of a split: the first, or one by which it grew.

    Its shards hold equally many records, the last one what is left; in place, where the tars say
    how many, `records_per_shard` is 0. Numbers are 0 until the part is planned.
    """

    identity: str
    command: str
    num_records: int = 0
    num_shards: int = 0
    records_per_shard: int = 0


@dataclass(frozen=True)
class PackTask:
    """One shard to make. `first_record` counts from the start of the split."""

    number: int
    name: str
    first_record: int
    records: Sequence[Record]


@dataclass(frozen=True, eq=False)
class PackingPlan:
    """A part with its records in the order of packing, cut into shards at `starts`.

    `parts` are all parts of the split, this one at `place`.
    """

    split: str
    parts: tuple[PackedPart, ...]
    place: int
    records: Sequence[Record]
    starts: Sequence[int]

    @property
    def part(self) -> PackedPart:
        return self.parts[self.place]

    @property
    def numbers(self) -> range:
        """List the numbers of the part's shards."""
        first = sum(part.num_shards for part in self.parts[: self.place])
        return range(first, first + len(self.starts))

    @property
    def num_shards(self) -> int:
        """Count the shards of all parts."""
        return self.numbers.stop + sum(part.num_shards for part in self.parts[self.place + 1 :])

    def bounds(self, number: int) -> tuple[int, int]:
        """Return which of the part's records go into shard `number` of the split."""
        nth = number - self.numbers.start
        is_last = nth + 1 == len(self.starts)
        return self.starts[nth], len(self.records) if is_last else self.starts[nth + 1]

    def task(self, number: int) -> PackTask:
        """Return shard `number` of the split. Its records are read now, if they are on disk."""
        start, stop = self.bounds(number)
        name = shard_name(self.split, number)
        return PackTask(number, name, self.num_before + start, self.records[start:stop])

    @property
    def num_before(self) -> int:
        """Count the records of the parts before this one."""
        return sum(part.num_records for part in self.parts[: self.place])


def plan_part(
    job: Job, parts: Sequence[PackedPart], place: int, ordered: Sequence[Record], pool: Pool
) -> PackingPlan:
    """Cut the records of part `place`, whose identity is known, into shards."""
    part = parts[place]
    if job.in_place:
        paths = [record.path for record in ordered]
        starts: Sequence[int] = [n for n in range(len(paths)) if n == 0 or paths[n] != paths[n - 1]]
        per_shard = 0
    else:
        per_shard = part.records_per_shard or count_per_shard(job, ordered, pool)
        starts = range(0, len(ordered), per_shard)
    # What --append completes keeps the command that made it.
    command = part.command if job.append and part.command else job.command
    planned = PackedPart(part.identity, command, len(ordered), len(starts), per_shard)
    return PackingPlan(
        job.split, (*parts[:place], planned, *parts[place + 1 :]), place, ordered, starts
    )


def in_packing_order(job: Job) -> tuple[Sequence[Record], str]:
    """Return the records in the order in which they are packed, and the identity of the packing.

    Shuffled is the order of the 64-bit BLAKE2b hashes of the keys: it needs no seed, every class is
    spread over all shards, and a record has the same neighbours however the source lists them.
    Raises DataError for two records with one key.
    """
    records = job.records
    if isinstance(records, SpooledRecords):
        hashes = records.hashes
        digests = records.digests
    else:
        hashes = np.fromiter(map(key_hash, records), np.uint64, len(records))
        joined = b"".join(map(record_digest, records))
        digests = np.frombuffer(joined, np.uint8).reshape(len(records), -1)
    by_hash = _sorted_by_key(records, hashes)
    order = by_hash if job.order == "shuffled" and not job.in_place else np.arange(len(records))
    identity = hashlib.sha256(job.options_digest().encode())
    for start in range(0, len(order), 1 << 20):  # a copy of all would double the memory
        identity.update(digests[order[start : start + (1 << 20)]].tobytes())
    return chosen_records(records, order), identity.hexdigest()


def chosen_records(records: Sequence[Record], places: np.ndarray) -> Sequence[Record]:
    """Return the records at these places, in their order."""
    if isinstance(records, SpooledRecords):
        return records.chosen(places)
    return [records[place] for place in places.tolist()]


def _sorted_by_key(records: Sequence[Record], hashes: np.ndarray) -> np.ndarray:
    """Sort by hash, then by key; equal keys meet and are refused."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    for start in np.flatnonzero(ordered[1:] == ordered[:-1]).tolist():
        stop = start + 1
        while stop < len(order) and ordered[stop] == ordered[start]:
            stop += 1
        places = sorted(order[start:stop].tolist(), key=lambda n: (sample_key(records[n].name), n))
        for one, other in pairwise(places):
            key = sample_key(records[one].name)
            if key == sample_key(records[other].name):
                raise DataError(
                    f"{records[other].source} and {records[one].source} would both have the key "
                    f"{key}; rename one of them"
                )
        order[start:stop] = places
    return order


def count_per_shard(job: Job, records: Sequence[Record], pool: Pool) -> int:
    """Decide how many records a shard holds: `shard_samples`, or as many as make `shard_bytes`.

    The mean of some evenly spaced records, packed as all will be, says how many these are; all
    shards but the last are then of one length. A small set of small files is one shard.
    """
    num = len(records)
    if job.shard_samples:
        return min(job.shard_samples, num)
    if num <= MOST_UNMEASURED:
        num_bytes = sum(max(0, record.num_bytes()) for record in records)
        if num_bytes * MOST_GROWTH <= job.shard_bytes:
            return num
    pilots = min(MOST_PILOTS, max(FEWEST_PILOTS, num // PILOT_SHARE))
    places = sorted({(2 * nth + 1) * num // (2 * pilots) for nth in range(pilots)})
    mean = pilot([records[place] for place in places], job.image, job.accept_damaged, pool)
    most = max(1, int(job.shard_bytes / mean)) if mean else num
    num_shards = -(-num // most)
    return -(-num // num_shards)
