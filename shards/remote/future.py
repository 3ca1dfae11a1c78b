"""Which shards a run needs when: what is fetched next, and what the cache can do without longest.

The order of a run is known (shards.sampler), so the best rule there is can be used, Belady's: what
goes is what is needed last. In later epochs 1 - c of a set is fetched with a cache of c of it.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

# Shard by shard: int64 [n, 3] of the first and the last step of an epoch that read it, and its
# number. A shard may be named more than once.
UsesOf = Callable[[int], np.ndarray]
NEVER = np.iinfo(np.int64).max


class Course(NamedTuple):
    """What is read: the uses of each epoch, and the steps of one."""

    uses_of: UsesOf
    num_steps: int


def uses_in_order(
    num_samples: np.ndarray, batch_size: int, first_batch: int = 0, end_batch: int = NEVER
) -> np.ndarray:
    """List the uses of an epoch in the order of the index, each shard for its own steps: those of
    some batches, the first of which is step 0.
    """
    ends = np.cumsum(num_samples)
    starts = ends - num_samples
    first = np.maximum(starts // batch_size, first_batch)
    last = np.minimum((ends - 1) // batch_size, end_batch - 1)
    used = np.flatnonzero((num_samples > 0) & (first <= last))
    steps = np.stack([first, last], 1)[used] - first_batch
    return np.column_stack([steps, used]).astype(np.int64)


def uses_of_all(num_samples: np.ndarray, num_steps: int) -> np.ndarray:
    """List the uses of an epoch in which any step may read any shard: a global shuffle."""
    filled = np.flatnonzero(num_samples)
    steps = np.full(len(filled), num_steps - 1)
    return np.stack([np.zeros_like(filled), steps, filled], 1).astype(np.int64)


def most_open_bytes(uses: np.ndarray, num_bytes: np.ndarray) -> int:
    """Count the bytes of the shards that are needed at once, where they are most."""
    if not len(uses):
        return 0
    steps = np.zeros(int(uses[:, 1].max()) + 2, np.int64)
    sizes = num_bytes[uses[:, 2]]
    np.add.at(steps, uses[:, 0], sizes)
    np.subtract.at(steps, uses[:, 1] + 1, sizes)
    return int(np.cumsum(steps).max())


class Future:
    """The uses of this epoch and the next, seen from a step: steps are counted from the run's first.

    Not for several threads at once.
    """

    def __init__(self, course: Course, num_shards: int) -> None:
        self._course = course
        self._num_shards = num_shards
        self._epoch = -1
        self.now = 0  # the earliest step that is still being made
        self._uses = np.empty((0, 3), np.int64)
        self.used = np.empty(0, np.int64)  # the shards of both epochs

    def at(self, epoch: int, step: int) -> int:
        """Count the steps of a run up to a step of an epoch."""
        return epoch * self._course.num_steps + step

    def turn_to(self, now: int) -> None:
        """Move on, or back, to a step of the run."""
        epoch = now // self._course.num_steps
        if epoch != self._epoch:
            self._epoch = epoch
            parts = []
            for each in (epoch, epoch + 1):
                uses = self._course.uses_of(each).astype(np.int64, copy=True).reshape(-1, 3)
                uses[:, :2] += each * self._course.num_steps
                parts.append(uses)
            both = np.concatenate(parts)
            self._uses = both[np.lexsort((both[:, 1], both[:, 0]))]
            self.used = np.unique(both[:, 2])
        self.now = now

    def next_use(self) -> np.ndarray:
        """Tell of each shard at which step it is needed next: int64 [S], no earlier than now; the
        greatest number there is where it is not needed.
        """
        left = self._uses[self._uses[:, 1] >= self.now]
        out = np.full(self._num_shards, NEVER)
        np.minimum.at(out, left[:, 2], np.maximum(left[:, 0], self.now))
        return out

    def coming(self) -> np.ndarray:
        """List the shards that are needed from now on, what is needed first in front: int64 [n]."""
        numbers = self._uses[self._uses[:, 1] >= self.now, 2]
        first = np.unique(numbers, return_index=True)[1]
        return numbers[np.sort(first)]

    def open_at(self, steps: Iterable[int]) -> set[int]:
        """Name the shards that some steps need."""
        first = self._uses[:, 0]
        last = self._uses[:, 1]
        needed: set[int] = set()
        for step in steps:
            needed.update(self._uses[(first <= step) & (step <= last), 2].tolist())
        return needed
