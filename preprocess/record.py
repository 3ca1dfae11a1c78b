"""What a source says of each photograph, and the interface of a source."""

import errno
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from preprocess.images.geometry import ImageOptions
from shards.errors import DataError, count_of
from shards.index import Task

__all__ = ["Record", "Source"]

MAX_CLASSES = 100_000  # a sample has a bit for each on disk, in memory a byte
# of one encoded image: 100 million pixels of 16-bit RGB, uncompressed, have 0.6 GB
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Record:
    """One photograph before packing.

    `name` is unique within its split and becomes the sample's key; `source` is the path of the
    image relative to the source's root, kept in the sample's JSON. `labels` and `ignored` are
    sorted, disjoint class indices. `span` is (offset, length) in bytes of an image inside a larger
    file, such as a tar; `data` is the encoded image itself where it is in no file (`path` is then
    the file it was made from).
    """

    name: str
    path: Path
    source: str
    labels: tuple[int, ...]
    ignored: tuple[int, ...]
    span: tuple[int, int] | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """Read the encoded image. Raises OSError where that is not possible, or where it is no
        regular file.

        A pipe or a device among the photographs would block for ever or never end.
        """
        if self.data is not None:
            return self.data
        status = self.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(self.path))
        offset, length = self.span or (0, status.st_size)
        if length > MAX_BYTES:
            raise OSError(
                errno.EFBIG, f"{count_of(length, 'byte')}, more than {MAX_BYTES:,}", str(self.path)
            )
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(length)
            while len(data) < length and (more := file.read(length - len(data))):
                data += more
            return data

    def num_bytes(self) -> int:
        """Tell the size of the encoded image without reading it; -1 where its file cannot be found."""
        if self.data is not None:
            return len(self.data)
        if self.span is not None:
            return self.span[1]
        try:
            return self.path.stat().st_size
        except OSError:  # a missing image is rejected, its shard is finished all the same
            return -1


class Source(ABC):
    """A place where labelled photographs come from. docs/sources.md shows how to write one and use
    it.

    The class is called with the folder (or file) that `--root` names and with its options: where it
    is a dataclass, each field declared by `shards.commandline.option` is a flag of
    `preprocess.shard`. Then `class_names` is set: without a field of that name. `task` is
    multiclass where every photograph has exactly one label. Reading a source must be cheap: images
    are opened later.
    """

    class_names: tuple[str, ...]
    task: Task = "multilabel"
    # its images are in tars (`Record.span`) that are indexed there instead of packed again
    in_place: bool = False
    # shown to a user who gave no --root
    root_holds: ClassVar[str] = "the folder of the photographs"
    example: ClassVar[str] = "--root FOLDER --out data/NAME"  # what follows --source NAME in --help

    @classmethod
    def default_root(cls, out: Path) -> Path | None:
        """Return where the source is if the user does not say, given the dataset's folder; None:
        the user must.
        """
        return None

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Name the splits to pack when the user names none; ("all",) where the source has none of
        its own.
        """

    @abstractmethod
    def records(self, split: str) -> Sequence[Record]:
        """List the photographs of a split in a fixed order. Raises DataError for an unknown or
        empty split.
        """

    def parts(self, split: str) -> Sequence[Any]:
        """Divide a split of millions into what `list_part` takes, such as folders; () where
        `records` lists it quickly enough.

        Parts are listed by several processes at once and their records kept on disk, so each should
        hold 100,000 records at most. The source and its parts are sent to the processes by pickle.
        """
        return ()

    def list_part(self, split: str, part: Any) -> Iterable[Record]:
        """List the photographs of one part, as `records` would. Raises DataError where a source
        names parts and does not say how to list them.
        """
        raise DataError(
            f"{type(self).__name__}: names parts of {split}, but has no list_part; write it, or "
            "leave parts out"
        )

    def describe(self) -> Sequence[str]:
        """Say where the labels were read from and how (tables, columns, separators), one fact a
        line.

        The packer prints these lines, so that a wrong guess is seen before anything is trained.
        """
        return ()

    def image_options(self, options: ImageOptions, train: Sequence[Record]) -> ImageOptions:
        """Adapt how images are packed to this source; `train` are the records of the training
        split.
        """
        return options


def listed_records(source: Source, split: str) -> Sequence[Record]:
    """List a split by `Source.records`, which may be a generator too. Raises DataError where it
    gives anything but records, or a record breaks the rules.
    """
    records = source.records(split)
    if not isinstance(records, Sequence):
        if not isinstance(records, Iterable):
            raise DataError(
                f"{type(source).__name__}: records({split!r}) returned {records!r:.100}; return a "
                "list of Record"
            )
        records = list(records)
    check_records(split, records, source)
    return records


def check_records(split: str, records: Sequence[Record], source: Source) -> None:
    """Raise DataError where a record breaks the rules of `Record`: a mistake of whoever wrote the
    source.
    """
    if not re.fullmatch(r"\w[\w.-]*", split):
        raise DataError(
            f"split {split!r} cannot be the name of a folder; use letters, digits, _ and -"
        )
    if not records:
        raise DataError(f"split {split!r} has no image; fill it, or leave it out with --splits")
    num_classes = len(source.class_names)
    for record in records:
        if not isinstance(record, Record):
            raise DataError(
                f"{split}: records has {record!r:.100}, which is no preprocess.record.Record; make "
                "it one"
            )
        where = f"{split}: {record.source} ({record.name!r})"
        _check_types(record, where)
        shown = (*record.labels, *record.ignored)
        if any(not 0 <= label < num_classes for label in shown):
            raise DataError(
                f"{where} has labels {shown}, but the dataset has "
                f"{count_of(num_classes, 'class')}; count from 0"
            )
        if list(record.labels) != sorted(record.labels) or list(record.ignored) != sorted(
            record.ignored
        ):
            raise DataError(
                f"{where} has labels {record.labels} and ignored {record.ignored}; sort them"
            )
        if len(set(shown)) < len(shown):
            raise DataError(
                f"{where} has a class twice, in labels {record.labels} or ignored {record.ignored}"
            )
        if source.task == "multiclass" and (len(record.labels) != 1 or record.ignored):
            raise DataError(
                f"{where} has {count_of(len(record.labels), 'label')}; with task multiclass give "
                "each exactly "
                f"one"
            )


def _check_types(record: Record, where: str) -> None:
    """Raise DataError for what cannot be written down later: a name that is empty or no text,
    labels of numpy's.
    """
    for name, kind in (
        ("name", str),
        ("path", Path),
        ("source", str),
        ("labels", tuple),
        ("ignored", tuple),
    ):
        value = getattr(record, name)
        unused = name == "path" and record.data is not None
        if not (unused or isinstance(value, kind) or (kind is tuple and isinstance(value, list))):
            raise DataError(
                f"{where} has {name} {value!r:.100} of type {type(value).__name__}; make it a "
                f"{kind.__name__}"
            )
    if not isinstance(record.data, bytes | None):
        raise DataError(
            f"{where} has data of type {type(record.data).__name__}; make it the bytes of an "
            f"encoded image, as a JPEG file has"
        )
    if not record.name:
        raise DataError(f"{where} has an empty name; give each image a name of its own")
    odd = next(
        (label for label in (*record.labels, *record.ignored) if type(label) is not int), None
    )
    if odd is not None:
        raise DataError(
            f"{where} has label {odd!r} of type {type(odd).__name__}; make it an int, such as by "
            f"array.tolist()"
        )
