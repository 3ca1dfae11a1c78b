"""List a large source in parallel and keep its records on disk: memory holds 32 bytes of each."""

import hashlib
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, overload

import numpy as np

from preprocess.packing.keys import sample_key
from preprocess.packing.pool import Pool
from preprocess.record import Record, Source, check_records, listed_records

DIGEST_BYTES = 16


def key_hash(record: Record) -> int:
    """Hash a record's key to 64 bits: by this a split is shuffled, on every platform and release."""
    return hash_key(sample_key(record.name))


def hash_key(key: str) -> int:
    """Hash a key as `key_hash` does."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def record_digest(record: Record) -> bytes:
    """Hash what a record says, but for its pixels and where its source is on this machine."""
    said = (record.name, record.source, tuple(record.labels), tuple(record.ignored))
    return hashlib.blake2b(ascii(said).encode(), digest_size=DIGEST_BYTES).digest()


class ListedPart(NamedTuple):
    """One part of a source, as a worker sends it: records pickled one by one, and their hashes."""

    pickled: bytes
    lengths: np.ndarray  # uint32 [n], bytes of each
    hashes: np.ndarray  # uint64 [n]
    digests: np.ndarray  # uint8 [n, DIGEST_BYTES]


def list_in_parallel(source: Source, split: str, pool: Pool) -> Sequence[Record]:
    """List a split: by `Source.records`, or part by part in the pool where the source has parts."""
    parts = source.parts(split)
    if not parts:
        return listed_records(source, split)
    file = tempfile.TemporaryFile(prefix="tarmac-listing-")  # noqa: SIM115
    listed = []
    for part in pool.run(_list_part, ((source, split, part) for part in parts)):
        file.write(part.pickled)
        listed.append(part[1:])
    file.flush()
    lengths, hashes, digests = (np.concatenate(column) for column in zip(*listed, strict=True))
    if not len(lengths):
        check_records(split, (), source)
    starts = np.cumsum(lengths, dtype=np.uint64) - lengths
    return SpooledRecords(file, starts, lengths, hashes, digests)


def _list_part(task: tuple[Source, str, Any]) -> ListedPart:
    source, split, part = task
    records = list(source.list_part(split, part))
    if records:
        check_records(split, records, source)
    pickled = [_to_bytes(record) for record in records]
    return ListedPart(
        b"".join(pickled),
        np.fromiter(map(len, pickled), np.uint32, len(records)),
        np.fromiter(map(key_hash, records), np.uint64, len(records)),
        np.frombuffer(b"".join(map(record_digest, records)), np.uint8).reshape(-1, DIGEST_BYTES),
    )


class SpooledRecords(Sequence[Record]):
    """Records in a file without a name, which ends with this process, in any order of them."""

    def __init__(
        self,
        file: IO[bytes],
        starts: np.ndarray,
        lengths: np.ndarray,
        hashes: np.ndarray,
        digests: np.ndarray,
    ) -> None:
        self.hashes = hashes  # uint64 [N], key_hash of each
        self.digests = digests  # uint8 [N, DIGEST_BYTES], record_digest of each
        self._file = file
        self._starts = starts
        self._lengths = lengths

    def chosen(self, places: np.ndarray) -> "SpooledRecords":
        """Return the records at these places, in their order."""
        columns = (self._starts, self._lengths, self.hashes, self.digests)
        return SpooledRecords(self._file, *(column[places] for column in columns))

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self._read(number) for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        return self._read(number)

    def __iter__(self) -> Iterator[Record]:
        return map(self._read, range(len(self)))

    def _read(self, number: int) -> Record:
        start = int(self._starts[number])
        return _from_bytes(os.pread(self._file.fileno(), int(self._lengths[number]), start))


def _to_bytes(record: Record) -> bytes:
    """Pickle a record; a plain one without the names of its fields, at a third of the bytes."""
    if type(record) is not Record or record.data is not None:
        return pickle.dumps(record)
    path = os.fspath(record.path)
    return pickle.dumps(
        (record.name, path, record.source, tuple(record.labels), tuple(record.ignored), record.span)
    )


def _from_bytes(data: bytes) -> Record:
    found = pickle.loads(data)
    if isinstance(found, Record):
        return found
    name, path, source, labels, ignored, span = found
    return Record(name, Path(path), source, labels, ignored, span)
