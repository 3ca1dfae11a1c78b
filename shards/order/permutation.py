"""Permute a range of any length without storing it: the base of every order."""

import numpy as np

from shards.augment.hashing import hash2
from shards.host.compiled import compiled

# Swap-or-not (Hoang, Morris, Rogaway, CRYPTO 2012) is a permutation of any range without cycle
# walking. Each round halves what an order gives away of the position before it; 64 leave nothing
# that a test can see.
ROUNDS = 64


@compiled(nogil=True)
def permute_run(run: np.ndarray, num: int, base: np.uint64) -> None:
    """Replace numbers below `num`, int64 [B], by where a permutation takes them. `base` names it.

    The keys of the rounds cost as much as a number: a run shares them.
    """
    n = np.uint64(num)
    for round_number in range(ROUNDS):
        key = hash2(base, np.uint64(round_number))
        shift = key % n
        for i in range(len(run)):
            here = np.uint64(run[i])
            there = shift - here if here <= shift else shift + n - here
            if hash2(key, max(here, there)) & np.uint64(1):
                run[i] = np.int64(there)


@compiled(nogil=True)
def _shuffle(out: np.ndarray, num_samples: int, seed: int, epoch: int) -> None:
    permute_run(out, num_samples, hash2(np.uint64(seed), np.uint64(epoch)))


def shuffled(positions: np.ndarray, num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return which samples are at `positions` of an epoch's order: int64 [B] -> int64 [B].

    A pure function of (num_samples, seed, epoch): nothing is stored, so 100 million samples cost no
    memory and going on in the middle of an epoch costs no time. About 0.2 us per position.
    """
    out = np.array(positions, np.int64)
    _shuffle(out, num_samples, seed, epoch)
    return out
