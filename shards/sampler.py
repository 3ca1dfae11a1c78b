"""Who reads, and the batches of a run: an order as a pure function, and each rank's part of it."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from shards.choices import OrderName
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.order.near_order import EMPTY, NearOrder
from shards.order.permutation import shuffled

__all__ = ["World"]

DEFAULT_GROUPS = 16
SHARDS_A_GROUP = 16  # at least: so at most one shard in 16 is open at a time


@dataclass(frozen=True)
class World:
    """Who reads: this rank among `num_ranks`, of which `num_local` are on this machine."""

    rank: int = 0
    num_ranks: int = 1
    num_local: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.num_ranks:
            raise DataError(f"rank {self.rank} is not in a world of {self.num_ranks} ranks")


@dataclass(frozen=True)
class Plan(ABC):
    """The batches of a run: an order fills the slots of global batches, and a rank takes as many
    neighbouring slots as every other.

    Slots are from 0 to `global_batch_size`; those that a short last batch leaves empty are EMPTY.
    """

    num_samples: int
    global_batch_size: int
    seed: int
    world: World

    @abstractmethod
    def slots(self, epoch: int, step: int, first: int, last: int) -> np.ndarray:
        """List the samples in slots `first` to `last` of a global batch: int64 [last - first]."""

    @abstractmethod
    def spare_ids(self, epoch: int, step: int) -> np.ndarray:
        """List samples that may fill up this rank's batch where it has no readable one: int64,
        at least one.
        """

    @property
    def name(self) -> OrderName:
        """Name the order as options do."""
        return "global"

    @property
    def reads_all(self) -> bool:
        """Tell whether every rank reads of all shards, and so may look at all rows."""
        return True

    def identity(self) -> dict[str, int | str]:
        """Name what decides which sample comes when: a run that goes on needs the same."""
        return {
            "seed": self.seed,
            "num_samples": self.num_samples,
            "global_batch_size": self.global_batch_size,
            "order": self.name,
        }

    @property
    def local_batch_size(self) -> int:
        """Count the slots of one rank's batch; the last ranks pad where it does not divide evenly."""
        return -(-self.global_batch_size // self.world.num_ranks)

    @property
    def num_steps(self) -> int:
        """Count the steps of an epoch: the same on every rank."""
        return -(-self.num_samples // self.global_batch_size)

    def num_in(self, step: int) -> int:
        """Count the samples of a global batch."""
        rest = self.num_samples - step * self.global_batch_size
        return max(0, min(self.global_batch_size, rest))

    def global_ids(self, epoch: int, step: int) -> np.ndarray:
        """List the samples of a global batch: int64 [<= global_batch_size]."""
        ids = self.slots(epoch, step, 0, self.global_batch_size)
        return ids[ids != EMPTY]

    def local_ids(self, epoch: int, step: int) -> np.ndarray:
        """List what is in this rank's slots: int64 [local_batch_size], EMPTY where nothing is."""
        ids = self.slots(epoch, step, *self._own_slots(self.world.rank, self.world.rank + 1))
        if len(ids) == self.local_batch_size:
            return ids
        return np.concatenate([ids, np.full(self.local_batch_size - len(ids), EMPTY)])

    def _own_slots(self, first_rank: int, end_rank: int) -> tuple[int, int]:
        first = first_rank * self.local_batch_size
        last = end_rank * self.local_batch_size
        return min(first, self.global_batch_size), min(last, self.global_batch_size)


@dataclass(frozen=True)
class GlobalPlan(Plan):
    """Batches from anywhere in the split: each is a slice of the epoch's order, a permutation of
    all samples, or the order of the index.
    """

    shuffle: bool

    def slots(self, epoch: int, step: int, first: int, last: int) -> np.ndarray:
        """List the samples in slots `first` to `last` of a global batch: int64 [last - first]."""
        start = step * self.global_batch_size
        ids = np.arange(start + first, min(start + last, self.num_samples))
        if self.shuffle:
            ids = shuffled(ids, self.num_samples, self.seed, epoch)
        if len(ids) == last - first:
            return ids
        return np.concatenate([ids, np.full(last - first - len(ids), EMPTY)])

    def spare_ids(self, epoch: int, step: int) -> np.ndarray:
        """List the samples of the global batch."""
        return self.global_ids(epoch, step)


@dataclass(frozen=True)
class NearPlan(Plan):
    """Batches whose slots belong to groups of shards: a rank reads few shards at a time, and the
    same ones in every epoch (shards.order.near_order).
    """

    order: NearOrder = field(compare=False)

    def slots(self, epoch: int, step: int, first: int, last: int) -> np.ndarray:
        """List the samples in slots `first` to `last` of a global batch: int64 [last - first]."""
        return self.order.fill(epoch, step, first, last)

    def spare_ids(self, epoch: int, step: int) -> np.ndarray:
        """List the samples of this rank's batches around this one; of the global batch where it has
        none: these are in other ranks' shards.
        """
        around = [step - 1, step, step + 1]
        local = [self.local_ids(epoch, near) for near in around if 0 <= near < self.num_steps]
        ids = np.concatenate(local)
        ids = ids[ids != EMPTY]
        return ids if len(ids) else self.global_ids(epoch, step)

    @property
    def name(self) -> OrderName:
        """Name the order as options do."""
        return "near"

    @property
    def reads_all(self) -> bool:
        """Tell whether every rank reads of all shards: one rank does."""
        return self.world.num_ranks == 1

    def identity(self) -> dict[str, int | str]:
        """Name what decides which sample comes when: the sizes of the shards do, too."""
        return {
            **super().identity(),
            "shuffle_groups": self.order.groups,
            "shuffle_window": self.order.window,
            "shard_sizes": hashlib.blake2b(self.order.sizes.tobytes(), digest_size=8).hexdigest(),
        }

    def uses(self, epoch: int) -> np.ndarray:
        """Tell when the ranks of this machine need which shards: int64 [uses, 3] of (first step,
        last step, shard), by first step.
        """
        first_rank = self.world.rank - self.world.rank % self.world.num_local
        slots = self._own_slots(first_rank, first_rank + self.world.num_local)
        return self.order.uses(epoch, self.order.groups_of(*slots))


@dataclass(frozen=True)
class SamePlan(Plan):
    """The same samples in every batch of every epoch: to warm up with."""

    ids: np.ndarray = field(compare=False)

    @classmethod
    def of(cls, ids: np.ndarray) -> "SamePlan":
        """Make batches of these samples alone."""
        return cls(len(ids), len(ids), 0, World(), ids)

    def slots(self, epoch: int, step: int, first: int, last: int) -> np.ndarray:
        """List the samples in slots `first` to `last`: int64 [last - first]."""
        return self.ids[first:last].copy()

    def spare_ids(self, epoch: int, step: int) -> np.ndarray:
        """List all of them."""
        return self.ids


@dataclass(frozen=True)
class Order:
    """How training samples are shuffled.

    `kind="global"` draws each batch from the whole split. `kind="near"` reads a few shards at a
    time, and on each machine the same ones in every epoch: for shards that come over a network.
    Each batch has a part of `groups` groups of shards, and `window` shards of a group are open at a
    time; 0 groups are 16, but at most one for 16 shards. `kind="auto"` is near for a split that is
    remote, and global for a folder.
    """

    kind: OrderName = "auto"
    groups: int = 0
    window: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(OrderName):
            raise DataError(f"order is {self.kind!r}: give auto, global or near")
        if self.groups < 0:
            raise DataError(f"shuffle_groups is {self.groups}: give at least 1, or 0 for 16")
        if self.window < 1:
            raise DataError(f"shuffle_window is {self.window}: give at least 1")

    def plan(
        self, index: DatasetIndex, global_batch_size: int, shuffle: bool, seed: int, world: World
    ) -> Plan:
        """Plan the batches of a split. Raises DataError for more groups than a batch has slots."""
        kind = self.kind if self.kind != "auto" else "near" if index.is_remote else "global"
        if kind == "global" and (self.groups or self.window > 1):
            name, value = ("groups", self.groups) if self.groups else ("window", self.window)
            raise DataError(
                f"shuffle_{name} is {value}, but the order of {index.root} is global: leave it "
                "out, or give order near"
            )
        if kind == "global" or not shuffle:
            return GlobalPlan(index.num_samples, global_batch_size, seed, world, shuffle)
        if self.groups > global_batch_size:
            raise DataError(
                f"shuffle_groups is {self.groups}, but global_batch_size is {global_batch_size}: "
                "each group has a part of every batch; give at most as many"
            )
        sizes = index.shard_sizes
        groups = self.groups or min(DEFAULT_GROUPS, max(1, len(sizes) // SHARDS_A_GROUP))
        near = NearOrder(sizes, global_batch_size, groups, self.window, seed)
        return NearPlan(index.num_samples, global_batch_size, seed, world, near)
