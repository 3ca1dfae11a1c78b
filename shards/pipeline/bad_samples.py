"""What happens when a sample cannot be read: it is named, and the run stops, or goes on without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.errors import SampleError, count_of
from shards.index import DatasetIndex

_AGAIN = "run the same preprocess.shard command again"


def restoring(index: DatasetIndex) -> str:
    """Say how to repair a split with an unreadable sample: a split indexed in place is another
    writer's.
    """
    if index.in_place:
        return (
            f"restore the tar that the shard is a link to, or {_AGAIN} to index what is there now"
        )
    return f"{_AGAIN} to restore the shard"


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read: its row in the index, the path of its shard, its key and
    why.
    """

    id: int
    shard: str
    key: str
    reason: str

    def line(self) -> str:
        """Name it and say why."""
        return f"{self.shard}: sample {self.key}: {self.reason}"


class Watch:
    """Handles errors of the samples that one thread reads, one after the other: `with
    watch.over(id, row): ...`.

    A SampleError gets shard, key and remedy and goes on up, or with `skip` is noted in `bad`, by
    id, and ends here. `num_seen` and `where` tell another thread how far this one is.
    """

    def __init__(self, index: DatasetIndex, skip: bool) -> None:
        self._index = index
        self._skip = skip
        self._id = -1
        self._row = np.void(b"")
        self.num_seen = 0
        self.bad: dict[int, Skipped] = {}

    def begin(self) -> None:
        """Turn to a batch whose first sample is yet to come."""
        self._id = -1

    def over(self, number: int, row: np.void) -> "Watch":
        """Turn to a sample: row `number` of the index."""
        self._id = number
        self._row = row
        self.num_seen += 1
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> bool:
        if not isinstance(error, SampleError):
            return False
        skipped = self._skipped(str(error))
        if not self._skip:
            raise SampleError(f"{skipped.line()}; {restoring(self._index)}") from error
        self.bad[skipped.id] = skipped
        return True

    def where(self) -> str:
        """Name the sample that is being read, or before the first of a batch the file that says
        where samples are.
        """
        return (
            f"{self._index.root / self._index.rows_name}"
            if self._id < 0
            else self._skipped("").line().removesuffix(": ")
        )

    def _skipped(self, reason: str) -> Skipped:
        number = int(self._row["shard"])
        shards = self._index.shards
        path = self._index.root / shards[number].name if number < len(shards) else self._index.root
        return Skipped(self._id, str(path), self._index.key(self._id), reason)


def most_skipped(num_samples: int) -> int:
    """Tell how many samples of a split may be skipped in an epoch: one in a hundred, and always
    one.
    """
    return max(1, num_samples // 100)


def check_skipped(num_skipped: int, index: DatasetIndex, latest: Sequence[Skipped]) -> None:
    """Raise SampleError where more samples were skipped than is tolerated; `latest` are those just
    skipped.
    """
    most = most_skipped(index.num_samples)
    if num_skipped > most:
        last = f"{latest[-1].line()}; " if latest else f"{index.root}: "
        raise SampleError(
            f"{last}stopping: {num_skipped} of {count_of(index.num_samples, 'sample')} could not "
            "be read "
            f"(limit {most}); list them with: python -m preprocess.verify {index.root}"
        )
