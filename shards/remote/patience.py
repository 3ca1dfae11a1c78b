"""How long a server is waited for, and what can go wrong with one object."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from shards.errors import DataError

# of the system: the state of `random` is the run's, which is restored where it goes on
_SYSTEM = random.SystemRandom()


class Patience(NamedTuple):
    """Bounds of one object's transfer. An attempt that brings `progress` more bytes starts the count
    of attempts again, so a large object outlives many cut connections and a small one few.
    """

    attempts: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    connect_s: float = 10.0
    window_s: float = 20.0  # in each such time at least `min_bytes_per_s` of it must arrive
    min_bytes_per_s: int = 16_000
    progress_bytes: int = 8 << 20

    def pause(self, num_failures: int, asked: float | None) -> float:
        """Tell how long to wait after so many failures: doubled each time, of random length so that
        many ranks do not come back at once; or as long as the server asked for, up to the longest.
        """
        longest = min(self.longest_pause_s, self.first_pause_s * 2 ** (num_failures - 1))
        if asked is not None:
            return min(max(asked, 0.0), self.longest_pause_s)
        return longest * _SYSTEM.uniform(0.5, 1.0)


PATIENCE = Patience()


class Reply(NamedTuple):
    """What a server answers: from which byte on, how long the object is (None where the server does
    not say) and the bytes.
    """

    start: int
    num_bytes: int | None
    chunks: Iterator[bytes]


class ObjectStore(Protocol):
    """Reads the objects below an address, from several threads at once."""

    def get(
        self, name: str, start: int, num_bytes: int | None, stop: int | None = None
    ) -> AbstractContextManager[Reply]:
        """Ask for an object from byte `start` on, up to `stop` if given; it should have `num_bytes`
        in all. A server may send more than was asked for.
        """
        ...


class TransferError(Exception):
    """An attempt failed in a way that another may not. The text is ours: no address, no secret."""

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class ObjectChangedError(Exception):
    """The object is not the one that the index describes, as far as its length tells."""


class UnreachableError(DataError):
    """An object cannot be had from its server: the message names it, why, and the remedy."""


class MissingError(UnreachableError):
    """The server has no such object."""
