"""Who reads, and the batches of a run: an order as a pure function, and each rank's part of it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from shards.choices import OrderName, whole_number
from shards.errors import DataError, count_of
from shards.index import DatasetIndex
from shards.order.near_order import EMPTY, NearOrder
from shards.order.permutation import shuffled
from shards.remote.future import uses_in_order

__all__ = ["World"]

DEFAULT_GROUPS = 16
SHARDS_A_GROUP = 16  # at least: so at most one shard in 16 is open at a time


@dataclass(frozen=True)
class World:
    """Who reads: this rank among `num_ranks`, of which `num_local` are on this machine.

    These are neighbours, and as many on every machine, unless `local_ranks` lists them.
    """

    rank: int = 0
    num_ranks: int = 1
    num_local: int = 1
    local_ranks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rank", "num_ranks", "num_local"):  # text, where it is the launcher's
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if not 0 <= self.rank < self.num_ranks:
            raise DataError(
                f"rank {self.rank} is not in a world of {count_of(self.num_ranks, 'rank')}"
            )
        if self.num_local < 1:
            raise DataError(f"num_local is {self.num_local}: give at least 1")
        listed = self.local_ranks
        if not listed:
            first = self.rank - self.rank % self.num_local
            listed = tuple(range(first, min(first + self.num_local, self.num_ranks)))
        if self.rank not in listed or not set(listed) <= set(range(self.num_ranks)):
            raise DataError(
                f"local_ranks are {listed}: give those of the {count_of(self.num_ranks, 'rank')} "
                "that are on "
                f"the machine of rank {self.rank}"
            )
        object.__setattr__(self, "local_ranks", tuple(sorted(set(listed))))
        object.__setattr__(self, "num_local", len(self.local_ranks))

    @classmethod
    def on_machines(cls, rank: int, machines: Sequence[str]) -> "World":
        """Make the world of a rank from the name of every rank's machine."""
        mine = [other for other, name in enumerate(machines) if name == machines[rank]]
        return cls(rank, len(machines), len(mine), tuple(mine))

    @property
    def is_first_local(self) -> bool:
        """Tell whether this is the first rank of its machine."""
        return self.rank == self.local_ranks[0]


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

    def own_ids(self, epoch: int) -> np.ndarray:
        """List all samples of this rank in an epoch: int64."""
        ids = np.concatenate([self.local_ids(epoch, step) for step in range(self.num_steps)])
        return ids[ids != EMPTY]

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
        slots = [self._own_slots(rank, rank + 1) for rank in self.world.local_ranks]
        groups = [self.order.groups_of(first, last) for first, last in slots]
        return self.order.uses(epoch, np.unique(np.concatenate(groups)))


@dataclass(frozen=True)
class PartsPlan(Plan):
    """The order of the index, in parts: each rank reads neighbouring batches of its own.

    So a machine reads the shards of its part, and at most one shard with the next machine. The
    split is cut into batches before ranks share them: a sample has the same place in its batch on
    any number of ranks, which keeps its scores the same to the bit. Global batches are others on
    other ranks, which training could not have.
    """

    sizes: np.ndarray = field(compare=False)  # samples of each shard: int64 [S]

    @property
    def num_batches(self) -> int:
        """Count the batches of all ranks."""
        return -(-self.num_samples // self.local_batch_size)

    @property
    def num_steps(self) -> int:
        """Count the steps of an epoch: the same on every rank."""
        return -(-self.num_batches // self.world.num_ranks)

    def num_in(self, step: int) -> int:
        """Count the samples of a global batch."""
        return len(self.global_ids(0, step))

    def slots(self, epoch: int, step: int, first: int, last: int) -> np.ndarray:
        """List the samples in slots `first` to `last` of a global batch: int64 [last - first]."""
        ranks, places = np.divmod(np.arange(first, last), self.local_batch_size)
        batches = self._first_batch(ranks) + step
        ids = batches * self.local_batch_size + places
        is_there = (batches < self._first_batch(ranks + 1)) & (ids < self.num_samples)
        return np.where(is_there, ids, EMPTY)

    def spare_ids(self, epoch: int, step: int) -> np.ndarray:
        """List the samples of this rank's batches around this one: no other shard is opened."""
        first, end = self._batches_read(self.world.rank)
        low = max(first, min(first + step, end) - 1)
        high = min(low + 3, end)
        size = self.local_batch_size
        return np.arange(low * size, min(high * size, self.num_samples))

    @property
    def name(self) -> OrderName:
        """Name the order as options do."""
        return "near"

    @property
    def reads_all(self) -> bool:
        """Tell whether every rank reads of all shards: each reads its part."""
        return False

    def identity(self) -> dict[str, int | str]:
        """Name what decides which sample comes when: the number of ranks does, too."""
        return {**super().identity(), "num_ranks": self.world.num_ranks}

    def uses(self, epoch: int) -> np.ndarray:
        """Tell when the ranks of this machine need which shards: int64 [uses, 3] of (first step,
        last step, shard).
        """
        parts = []
        for rank in self.world.local_ranks:
            first, end = self._batches_read(rank)
            part = uses_in_order(self.sizes, self.local_batch_size, first, end)
            # a rank with a batch less repeats its last one
            part[part[:, 1] == end - first - 1, 1] = self.num_steps - 1
            parts.append(part)
        return np.concatenate(parts)

    def _first_batch(self, rank: np.ndarray | int) -> np.ndarray:
        return np.asarray(rank) * self.num_batches // self.world.num_ranks

    def _batches_read(self, rank: int) -> tuple[int, int]:
        """Name the batches of a rank; one that has none repeats a neighbour's."""
        first = min(int(self._first_batch(rank)), self.num_batches - 1)
        return first, max(first + 1, int(self._first_batch(rank + 1)))


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
    """How training samples are shuffled, and which part of a split each rank reads.

    `kind="global"` draws each batch from the whole split. `kind="near"` reads a few shards at a
    time, and on each machine the same ones in every epoch: for shards that come over a network.
    Each batch has a part of `groups` groups of shards, and `window` shards of a group are open at a
    time; 0 groups are 16, but at most one for 16 shards. `kind="auto"` is near for a split that is
    remote, and global for a folder.

    Without a shuffle near gives each rank a part of the index's order in one piece (PartsPlan), and
    global slices of it in turns.
    """

    kind: OrderName = "auto"
    groups: int = 0
    window: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(OrderName):
            raise DataError(f"order is {self.kind!r}: give auto, global or near")
        for name in ("groups", "window"):
            value = whole_number(f"shuffle_{name}", getattr(self, name))
            object.__setattr__(self, name, value)
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
        if kind == "near" and not shuffle and world.num_ranks > 1:
            whole = -(-global_batch_size // world.num_ranks) * world.num_ranks
            return PartsPlan(index.num_samples, whole, seed, world, index.shard_sizes)
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
