"""Counter-based randomness: a hash of what a number is for, instead of a generator with a state."""

import numpy as np

from shards.host.compiled import compiled


@compiled(nogil=True, inline="always")
def mix(x: np.uint64) -> np.uint64:
    """Scramble 64 bits: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled(nogil=True, inline="always")
def hash2(a: np.uint64, b: np.uint64) -> np.uint64:
    """Hash two numbers into 64 bits; the order of the two matters."""
    gamma = np.uint64(0x9E3779B97F4A7C15)
    return mix(mix(a + gamma) ^ (b + gamma))


@compiled(nogil=True, inline="always")
def hash3(a: np.uint64, b: np.uint64, c: np.uint64) -> np.uint64:
    """Hash three numbers into 64 bits."""
    return hash2(hash2(a, b), c)


@compiled(nogil=True, inline="always")
def uniform(key: np.uint64, draw: int) -> float:
    """Draw number `draw` of a key, uniform in [0, 1): the top 53 bits of its hash."""
    return np.float64(hash2(key, np.uint64(draw)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
