"""What a maker of batches needs of shards that are elsewhere: that they come before their turn."""

import contextlib

import numpy as np

from shards.index import DatasetIndex
from shards.remote.early_images import EarlyImages
from shards.remote.future import Course, most_open_bytes, uses_in_order, uses_of_all
from shards.sampler import GlobalPlan, NearPlan, PartsPlan, Plan


class Fetching:
    """The shards of one plan, fetched ahead; of a split in a folder nothing is done.

    `reads_once`: a cache of decoded images needs shards in its first epoch alone.
    """

    def __init__(self, index: DatasetIndex, plan: Plan, num_members: int, reads_once: bool) -> None:
        self._index = index
        self._plan = plan
        self._num_members = num_members
        self._reads_once = reads_once
        self._is_followed = False
        self._first_epoch: list[int] = []  # that is read; one at most

    def follow(self, begins: tuple[int, int]) -> None:
        """Let shards be fetched before they are needed. The images of the first batches, from that
        epoch and step on, may come before their shards.
        """
        if self._index.remote is not None:
            self._follow(self._course(), begins)

    def follow_all(self, samples_at_once: int) -> None:
        """Let all shards be fetched in their order, once, for a reader of so many samples a step."""
        if self._index.remote is not None:
            uses = uses_in_order(self._index.shard_sizes, samples_at_once)
            none = uses[:0]
            self._follow(
                Course(lambda epoch: none if epoch else uses, self._index.num_samples), None
            )

    def _follow(self, course: Course, begins: tuple[int, int] | None) -> None:
        assert self._index.remote is not None
        self._index.remote.follow(course, self._plan.world.is_first_local, begins)
        self._is_followed = True

    def turn(self, epoch: int, step: int) -> contextlib.AbstractContextManager[None]:
        """Hold on to the shards of a step while it is made."""
        if not self._is_followed or self._index.remote is None:
            return contextlib.nullcontext()
        if not self._first_epoch:
            self._first_epoch.append(epoch)
        return self._index.remote.turn(epoch, step)

    def early_images(self, ids: np.ndarray, epoch: int, step: int) -> EarlyImages:
        """Read those images of a batch that come before their shards."""
        remote = self._index.remote
        if remote is None:
            return {}
        place = remote.early_place((epoch, step) if self._is_followed else None)
        if place is None:
            return {}
        return remote.early_images(self._index.samples[ids], self._num_members, place)

    def has_room_beside(self, other: "Fetching", num_threads: int) -> bool:
        """Tell whether shards may be read for another maker at the same time: a cache must hold
        what the threads of both need at once, or both would wait for room.
        """
        remote = self._index.remote
        if remote is None:
            return True
        needed = self._num_open_bytes(num_threads) + other._num_open_bytes(num_threads)
        return needed <= remote.folder.room()

    def _num_open_bytes(self, num_threads: int) -> int:
        """Count the bytes of the shards that the threads of this machine need at once, at most."""
        if self._index.remote is None:
            return 0
        sizes = np.array([shard.num_bytes for shard in self._index.shards], np.int64)
        at_once = most_open_bytes(self._course_of_order().uses_of(0), sizes)
        return min(self._plan.world.num_local * num_threads * at_once, int(sizes.sum()))

    def _course(self) -> Course:
        """Say which shards the epochs of this run need when."""
        course = self._course_of_order()
        if not self._reads_once:
            return course
        first = self._first_epoch  # no reference to self: the shards would hold on to it
        none = np.empty((0, 3), np.int64)
        return course._replace(
            uses_of=lambda epoch: course.uses_of(epoch) if epoch <= min(first, default=0) else none
        )

    def _course_of_order(self) -> Course:
        plan = self._plan
        if isinstance(plan, NearPlan | PartsPlan):
            return Course(plan.uses, plan.num_steps)
        sizes = self._index.shard_sizes
        if isinstance(plan, GlobalPlan) and not plan.shuffle:
            uses = uses_in_order(sizes, plan.global_batch_size)
        else:
            uses = uses_of_all(sizes, plan.num_steps)
        return Course(lambda _: uses, plan.num_steps)
