"""List the samples of another writer's tar, grouped as WebDataset does, from headers only."""

import re
import shlex
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shards.errors import DataError, count_of, one_line

MAX_LABEL_BYTES = 16 << 20  # of one member of labels
# WebDataset's: path up to the first dot, and the rest
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")  # WebDataset skips these


@dataclass(frozen=True)
class TarMember:
    """One file of a sample: where its bytes are."""

    name: str
    offset: int
    length: int


@dataclass
class ForeignSample:
    """Consecutive members of one key, by suffix in lower case; `texts` are the contents of those
    asked for.
    """

    key: str
    members: dict[str, TarMember]
    texts: dict[str, bytes]


def read_samples(path: Path, wants: Callable[[str], bool]) -> Iterator[ForeignSample]:
    """Yield the samples of a tar in order, reading the members whose suffix `wants` accepts.

    Directories, `__meta__` members and hidden files are passed over, as WebDataset does. Raises
    DataError with shard and member for what is no plain file inside the archive, for a name twice,
    for a sample whose members are not next to each other, and where the archive is damaged,
    compressed or cut short.
    """
    sample: ForeignSample | None = None
    seen: set[str] = set()
    for tar, member in _plain_members(path):
        found = _NAME.fullmatch(member.name.removeprefix("./"))
        if found is None or _META.match(found[0]) or found[0].rpartition("/")[2].startswith("."):
            continue
        key = found[1]
        suffix = found[2].lower()
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            if key in seen:
                raise DataError(
                    f"{path}: {member.name}: members of sample {key!r} are not next to each other; "
                    "write the tar in the order of names (tar --sort=name)"
                )
            seen.add(key)
            sample = ForeignSample(key, {}, {})
        if suffix in sample.members:
            raise DataError(
                f"{path}: {member.name}: sample {key!r} has a member of this name already; remove "
                f"one"
            )
        sample.members[suffix] = TarMember(member.name, member.offset_data, member.size)
        if wants(suffix):
            if member.size > MAX_LABEL_BYTES:
                raise DataError(
                    f"{path}: {member.name} has {count_of(member.size, 'byte')}, too many for "
                    "labels; name "
                    f"another member"
                )
            file = tar.extractfile(member)
            assert file is not None, member.name
            sample.texts[suffix] = file.read()
    if sample is not None:
        yield sample


def check_whole(path: Path) -> None:
    """Raise DataError where a tar is damaged, cut short or followed by more, as `read_samples`
    would.
    """
    for _ in _plain_members(path):
        pass


def _plain_members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                parts = PurePosixPath(member.name)
                if parts.is_absolute() or ".." in parts.parts or "\0" in member.name:
                    raise DataError(
                        f"{path}: {member.name!r} leads out of the archive; do not use this tar"
                    )
                if not member.isreg() or member.issparse():
                    raise DataError(
                        f"{path}: {member.name} is a link, a device or sparse; write the tar with "
                        f"plain files"
                    )
                # GNU's form of large numbers has a sign; -1 would read all that follows
                if member.size < 0:
                    raise DataError(
                        f"{path}: {member.name} has {count_of(member.size, 'byte')}; do not use "
                        "this tar"
                    )
                if member.offset_data + member.size > size:
                    raise DataError(
                        f"{path}: {member.name} is cut off by the end of the file; fetch the tar "
                        f"again"
                    )
                yield tar, member
            _check_end(path, tar.offset, size)
    except tarfile.TarError as error:
        with path.open("rb") as file:
            packed = file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7", b"(\xb5")
        hint = (
            "it is compressed: decompress it"
            if packed
            else f"it is no intact tar ({error}): fetch it again"
        )
        raise DataError(f"{path}: {hint}") from None
    except (
        ValueError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:  # a long name may claim any length
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: it is no intact tar ({one_line(error)}): fetch it again"
        ) from None


def _check_end(path: Path, at: int, size: int) -> None:
    """Raise DataError unless the archive ends at `at`, where the last header was read, in blocks of
    zeros.

    tarfile takes the first block of zeros, a damaged header and the end of the file all for the end
    of the archive. What follows would be left out without a word, here and by every reader of tars.
    """
    first = _first_written(path, at)
    if first == at:
        raise DataError(
            f"{path}: no header at byte {at:,} of {size:,}, where one should be; fetch the tar "
            f"again"
        )
    if first is not None:
        raise DataError(
            f"{path}: its end mark is at byte {at:,} of {size:,}, but more follows at byte "
            f"{first:,}: several tars in one file, or a hole of zeros; unpack it with tar "
            "--ignore-zeros and write it again, or fetch it again"
        )
    remedy = f"truncate -s {at + 2 * tarfile.BLOCKSIZE} {shlex.quote(path.name)}"
    if size - at < tarfile.BLOCKSIZE:
        raise DataError(
            f"{path}: it stops at byte {size:,} without an end mark, so members may be missing; "
            f"fetch it again, or if it is whole add the mark with: {remedy}"
        )
    # tar fills up to a multiple of 10,240 bytes
    if size - at >= tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE:
        raise DataError(
            f"{path}: from byte {at:,} to its end at {size:,} it is zeros, more than a tar ends "
            f"with, so members may be missing; fetch it again, or if it is whole: {remedy}"
        )


def _first_written(path: Path, start: int) -> int | None:
    """Find the first block from `start` on, a multiple of 512, that is not all zeros; None where
    all are.
    """
    with path.open("rb") as file:
        file.seek(start)
        at = start
        while chunk := file.read(1 << 20):
            rest = chunk.lstrip(b"\0")
            if rest:
                return at + (len(chunk) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            at += len(chunk)
    return None
