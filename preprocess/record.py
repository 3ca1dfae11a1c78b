"""What a source says of each photograph, and the interface of a source."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.geometry import ImageOptions
from shards.index import Task


@dataclass(frozen=True)
class Record:
    """One photograph before packing.

    `name` is unique within its split and becomes the sample's key; `source` is the path of the image relative
    to the source's root, kept in the sample's JSON. `labels` and `ignored` are sorted, disjoint class indices.
    `span` is (offset, length) in bytes of an image that lies inside a larger file, such as a tar; `data` is the
    encoded image itself where it lies in no file (`path` is then the file it was made from).
    """

    name: str
    path: Path
    source: str
    labels: tuple[int, ...]
    ignored: tuple[int, ...]
    span: tuple[int, int] | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """Read the encoded image. Raises OSError where that is not possible."""
        if self.data is not None:
            return self.data
        if self.span is None:
            return self.path.read_bytes()
        offset, length = self.span
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

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
    """A place where labelled photographs come from. Reading it must be cheap: images are opened later.

    `task` is multiclass where every photograph has exactly one label.
    """

    class_names: tuple[str, ...]
    task: Task = "multilabel"

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Name the splits to pack when the user names none."""

    @abstractmethod
    def records(self, split: str) -> Sequence[Record]:
        """List the photographs of a split in a fixed order. Raises DataError for an unknown or empty split."""

    def image_options(self, options: ImageOptions, train: Sequence[Record]) -> ImageOptions:
        """Adapt how images are packed to this source; `train` are the records of the training split."""
        return options
