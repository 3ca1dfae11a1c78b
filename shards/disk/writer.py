"""Write one tar shard with its DALI index beside it, and read back what a shard holds. No torch
here.
"""

import functools
import hashlib
import json
import os
import re
import secrets
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shards.disk.early_sync import EarlySync
from shards.disk.format import BLOCK, sync_folder, write_atomically
from shards.errors import FormatError, one_line

KEY = re.compile(
    r"[A-Za-z0-9_%~-]{1,64}"
)  # preprocess.packing.keys makes no others: nothing that leads out of a folder
_MAX_JSON = 16 << 20
_MAX_OCTAL = 8**11 - 1
_SIZE = slice(124, 135)  # where a tar header has them
_CHECKSUM = slice(148, 155)


@dataclass(frozen=True)
class Sample:
    """One sample as it goes into a shard. `images` maps a member's suffix ("jpg", "nir.jpg") to its
    bytes.
    """

    key: str
    images: Mapping[str, bytes]
    labels: tuple[int, ...]
    ignored: tuple[int, ...]
    width: int
    height: int
    source: str


@dataclass(frozen=True)
class SampleRow:
    """Where a stored sample is: suffixes, offsets and lengths in bytes, one per image member.

    `crc` are the CRC-32 of the images where they are packed; () where a tar's headers are read.
    """

    key: str
    suffixes: tuple[str, ...]
    offset: tuple[int, ...]
    length: tuple[int, ...]
    labels: tuple[int, ...]
    ignored: tuple[int, ...]
    width: int
    height: int
    crc: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShardPiece:
    """Consecutive samples as the bytes of a tar without its end. Offsets count from its start.

    `described` are offset and length of each sample's JSON member. A shard is the concatenation of
    pieces, and where it is divided into them changes no byte.
    """

    data: bytes
    rows: tuple[SampleRow, ...]
    described: tuple[tuple[int, int], ...]


def tar_piece(samples: Iterable[Sample]) -> ShardPiece:
    """Lay out samples as tar members: of each its images in the mapping's order, then its JSON."""
    data = bytearray()
    rows = []
    described = []
    for sample in samples:
        offsets = []
        for suffix, image in sample.images.items():
            offsets.append(_append_member(data, f"{sample.key}.{suffix}", image))
        text = _json_of(sample)
        described.append((_append_member(data, f"{sample.key}.json", text), len(text)))
        rows.append(
            SampleRow(
                key=sample.key,
                suffixes=tuple(sample.images),
                offset=tuple(offsets),
                length=tuple(map(len, sample.images.values())),
                labels=sample.labels,
                ignored=sample.ignored,
                width=sample.width,
                height=sample.height,
                crc=tuple(map(zlib.crc32, sample.images.values())),
            )
        )
    return ShardPiece(bytes(data), tuple(rows), tuple(described))


class ShardWriter:
    """Write samples to `path`; the file appears under that name only when `close()` has synced it.

    Same samples, same bytes: mtime, uid and gid are 0 and members keep a fixed order. Until then it
    has a name that no other process gives: two tasks may make the same shard at the same time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[SampleRow] = []
        self._temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
        self._file = open(self._temporary, "wb")  # noqa: SIM115
        self._early = EarlySync(self._file)
        self._hash = hashlib.sha256()
        self._position = 0
        self._dali: list[str] = []

    @property
    def num_bytes(self) -> int:
        """Count the bytes of the finished tar if it were closed now."""
        end = self._position + 2 * BLOCK
        return end + -end % tarfile.RECORDSIZE

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        self.append(tar_piece([sample]))

    def append(self, piece: ShardPiece) -> None:
        """Append the samples of a piece."""
        start = self._position
        self._write(piece.data)
        for row, (place, size) in zip(piece.rows, piece.described, strict=True):
            moved = replace(row, offset=tuple(start + offset for offset in row.offset))
            self.rows.append(moved)
            images = zip(moved.suffixes, moved.offset, moved.length, strict=True)
            self._dali.append(_dali_line(row.key, [*images, ("json", start + place, size)]))

    def close(self) -> str:
        """Finish the shard and its `.idx`; return the tar's SHA-256 in hex."""
        self._write(bytes(self.num_bytes - self._position))
        with self._named():
            self._early.end()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        write_atomically(self.path.with_suffix(".idx"), _dali_text(self._dali), shared=True)
        os.replace(self._temporary, self.path)
        sync_folder(self.path.parent)
        return self._hash.hexdigest()

    def abort(self) -> None:
        """Drop the unfinished file."""
        self._early.stop()
        try:
            self._file.close()
        except OSError:  # what is still buffered does not fit on a full disk either
            pass
        finally:
            self._temporary.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        with self._named():
            self._file.write(data)
            self._early.written(len(data))
        self._hash.update(data)
        self._position += len(data)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # write and fsync do not name the file
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def _append_member(data: bytearray, name: str, content: bytes) -> int:
    """Append a file to a tar; return where its bytes start."""
    data += _header(name, len(content))
    start = len(data)
    data += content
    data += bytes(-len(content) % BLOCK)
    return start


def _header(name: str, size: int) -> bytes:
    """Spell a member's header as `TarInfo.tobuf` does, which takes four times as long."""
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) > tarfile.LENGTH_NAME or size > _MAX_OCTAL:
        return _info(name, size).tobuf(tarfile.GNU_FORMAT)
    header = bytearray(_blank_header())
    header[: len(encoded)] = encoded
    header[_SIZE] = b"%011o" % size
    header[_CHECKSUM] = b"%06o\0" % sum(header)  # the blank behind it is part of the field
    return bytes(header)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


@functools.cache
def _blank_header() -> bytes:
    """Spell the header of a file without a name, its checksum as blanks, as it is summed up."""
    header = bytearray(_info("", 0).tobuf(tarfile.GNU_FORMAT))
    header[148:156] = b" " * 8
    return bytes(header)


def _json_of(sample: Sample) -> bytes:
    described = {
        "labels": list(sample.labels),
        "ignored": list(sample.ignored),
        "width": sample.width,
        "height": sample.height,
        "source": sample.source,
    }
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":"))
    # A source path that is no UTF-8: \udcXX, as JSON spells it.
    return text.encode(errors="backslashreplace")


def dali_index(path: Path) -> bytes:
    """Make the `.idx` of a finished shard, ours or another writer's, from its tar headers."""
    lines: list[str] = []
    members: list[tuple[str, int, int]] = []
    before = ""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            folder, slash, name = member.name.rpartition("/")  # of other writers' shards
            stem, _, suffix = name.partition(".")
            if not member.isreg() or not stem:
                continue
            key = f"{folder}{slash}{stem}"
            if members and key != before:
                lines.append(_dali_line(before, members))
                members = []
            before = key
            members.append((suffix, member.offset_data, member.size))
    if members:
        lines.append(_dali_line(before, members))
    return _dali_text(lines)


def _dali_line(key: str, members: list[tuple[str, int, int]]) -> str:
    return " ".join(f"{suffix} {start} {size} {key}.{suffix}" for suffix, start, size in members)


def _dali_text(lines: list[str]) -> bytes:
    """DALI "v1.2": a header "version samples", then per sample "ext offset size name" for each
    member.

    A name that is no UTF-8 keeps the bytes that it has in the tar.

    https://docs.nvidia.com/deeplearning/dali (wds2idx)
    """
    return "".join(f"{line}\n" for line in [f"v1.2 {len(lines)}", *lines]).encode(
        errors="surrogateescape"
    )


def read_rows(path: Path) -> Iterator[SampleRow]:
    """List the samples of a finished shard from its tar headers and JSON members; image bytes are
    skipped.

    Raises FormatError where the archive is damaged or holds something else than samples.
    """
    images: dict[str, tuple[int, int]] = {}
    before = ""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if not member.isreg() or not KEY.fullmatch(key) or not suffix or suffix in images:
                    raise FormatError(
                        f"{path}: member {member.name!r} is part of no sample; pack this shard "
                        f"again"
                    )
                if images and key != before:
                    raise FormatError(f"{path}: sample {before} has no JSON; pack this shard again")
                before = key
                if suffix != "json":
                    images[suffix] = (member.offset_data, member.size)
                    continue
                file = tar.extractfile(member)
                assert file is not None, member.name
                described = _described(file.read(_MAX_JSON), path, key)
                offset, length = zip(*images.values(), strict=True) if images else ((), ())
                yield SampleRow(
                    key=key, suffixes=tuple(images), offset=offset, length=length, **described
                )
                images = {}
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{path}: is no intact tar ({one_line(error)}); pack this shard again"
        ) from error
    if images:
        raise FormatError(f"{path}: sample {before} has no JSON; pack this shard again")


def _described(data: bytes, path: Path, key: str) -> dict[str, Any]:
    """Read what the JSON says of a sample, nothing but positive sizes and class indices."""
    try:
        described = json.loads(data)
        numbers = {name: [described[name]] for name in ("width", "height")}
        numbers |= {name: described[name] for name in ("labels", "ignored")}
        if any(
            type(number) is not int or number < 0
            for values in numbers.values()
            for number in values
        ):
            raise ValueError("numbers are expected")
        return {
            "labels": tuple(numbers["labels"]),
            "ignored": tuple(numbers["ignored"]),
            "width": described["width"],
            "height": described["height"],
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{path}: {key}.json is not a sample's JSON ({error}); pack this shard again"
        ) from error


def file_sha256(path: Path) -> str:
    """Hash a file in constant memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
