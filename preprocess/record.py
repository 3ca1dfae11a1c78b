"""What a source says of each photograph, and the interface of a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Record:
    """One photograph before packing.

    `name` is unique within its split and becomes the sample's key; `source` is the path of the image relative
    to the source's root, kept in the sample's JSON. `labels` and `ignored` are sorted, disjoint class indices.
    """

    name: str
    path: Path
    source: str
    labels: tuple[int, ...]
    ignored: tuple[int, ...]


class Source(Protocol):
    """A place where labelled photographs come from. Reading it must be cheap: images are opened later."""

    class_names: tuple[str, ...]

    def splits(self) -> tuple[str, ...]:
        """Name the splits to pack when the user names none."""
        ...

    def records(self, split: str) -> Sequence[Record]:
        """List the photographs of a split in a fixed order. Raises DataError for an unknown or empty split."""
        ...
