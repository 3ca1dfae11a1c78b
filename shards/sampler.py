"""Which sample comes when: order as a pure function, and each rank's part of it."""

from dataclasses import dataclass

import numpy as np

from shards.augment.hashing import hash2, hash3
from shards.errors import DataError
from shards.host.compiled import compiled

__all__ = ["World"]

# Swap-or-not (Hoang, Morris, Rogaway, CRYPTO 2012) is a permutation of any range without cycle
# walking. Each round halves what an order gives away of the position before it; 64 leave nothing
# that a test can see.
ROUNDS = 64


@dataclass(frozen=True)
class World:
    """Who reads: this rank among `num_ranks`, of which `num_local` are on this machine."""

    rank: int = 0
    num_ranks: int = 1
    num_local: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.num_ranks:
            raise DataError(f"rank {self.rank} is not in a world of {self.num_ranks} ranks")


@compiled(nogil=True)
def _permute(positions: np.ndarray, num_samples: int, seed: int, epoch: int) -> np.ndarray:
    out = np.empty(len(positions), np.int64)
    out[:] = positions
    n = np.uint64(num_samples)
    for round_number in range(ROUNDS):
        key = hash3(np.uint64(seed), np.uint64(epoch), np.uint64(round_number))
        shift = key % n
        for i in range(len(out)):
            here = np.uint64(out[i])
            there = shift - here if here <= shift else shift + n - here
            if hash2(key, max(here, there)) & np.uint64(1):
                out[i] = np.int64(there)
    return out


def shuffled(positions: np.ndarray, num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return which samples are at `positions` of an epoch's order: int64 [B] -> int64 [B].

    A pure function of (num_samples, seed, epoch): nothing is stored, so 100 million samples cost no
    memory and going on in the middle of an epoch costs no time. About 0.2 us per position.
    """
    return _permute(np.asarray(positions, np.int64), num_samples, seed, epoch)


@dataclass(frozen=True)
class Plan:
    """The batches of a run: global batch `b` is a slice of the epoch's order, a rank takes its part
    of the slice.
    """

    num_samples: int
    global_batch_size: int
    shuffle: bool
    seed: int
    world: World

    @property
    def local_batch_size(self) -> int:
        """Count the slots of one rank's batch; the last ranks pad where it does not divide evenly."""
        return -(-self.global_batch_size // self.world.num_ranks)

    @property
    def num_steps(self) -> int:
        """Count the steps of an epoch: the same on every rank."""
        return -(-self.num_samples // self.global_batch_size)

    def global_ids(self, epoch: int, step: int) -> np.ndarray:
        """List the samples of a global batch: int64 [<= global_batch_size]."""
        start = step * self.global_batch_size
        positions = np.arange(start, min(start + self.global_batch_size, self.num_samples))
        return (
            shuffled(positions, self.num_samples, self.seed, epoch) if self.shuffle else positions
        )

    def local_part(self, num_global: int) -> slice:
        """Tell which part of a global batch of `num_global` samples this rank takes; it may be
        empty.
        """
        start = min(self.world.rank * self.local_batch_size, num_global)
        return slice(start, min(start + self.local_batch_size, num_global))
