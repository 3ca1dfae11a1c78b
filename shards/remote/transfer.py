"""Bring one object here: attempts that go on where the last one ended, and the hash of the whole."""

import hashlib
import time
from collections.abc import Callable
from typing import BinaryIO

from shards.errors import one_line
from shards.remote import patience
from shards.remote.address import Address
from shards.remote.fsspec_store import FsspecStore
from shards.remote.http_store import HttpStore
from shards.remote.patience import (
    ObjectChangedError,
    ObjectStore,
    Reply,
    TransferError,
    UnreachableError,
)

HASH_BYTES = 1 << 20


def open_store(root: Address) -> ObjectStore:
    """Choose how the objects below an address are read."""
    return HttpStore(root) if root.scheme in ("http", "https") else FsspecStore(root)


def keep_trying(
    where: Address,
    attempt: Callable[[], None],
    is_over: Callable[[], bool],
    have: Callable[[], int],
) -> None:
    """Try to bring an object until `is_over`; `have` counts the bytes that are here for good.

    Raises UnreachableError where too many attempts, one after the other, brought too little.
    """
    limits = patience.PATIENCE
    failures = 0
    counted_from = have()
    while not is_over():
        try:
            attempt()
        except TransferError as error:
            if have() - counted_from >= limits.progress_bytes:
                failures = 0
                counted_from = have()
            failures += 1
            if failures >= limits.attempts:
                raise UnreachableError(
                    f"{where}: {one_line(error)}, {failures} times one after the other; "
                    f"check the server and the network, then run the same command again"
                ) from None
            time.sleep(limits.pause(failures, error.retry_after_s))


class Transfer:
    """The bytes of one object that have arrived in a file, and their hash.

    `num_bytes` is how long it must be, None where that is not known; `limit` is how long it may be.
    `note` is called with the bytes of each piece that arrives.
    """

    def __init__(
        self,
        store: ObjectStore,
        where: Address,
        file: BinaryIO,
        num_bytes: int | None,
        limit: int,
        note: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._where = where
        self._file = file
        self._num_bytes = num_bytes
        self._limit = limit
        self._note = note
        self._hash = hashlib.sha256()
        self._have = 0
        self._is_whole = False

    def take_up(self) -> None:
        """Go on from what an earlier process has left in the file: it is hashed, not believed."""
        self._file.seek(0)
        while chunk := self._file.read(HASH_BYTES):
            self._hash.update(chunk)
            self._have += len(chunk)
        if self._have > self._limit:
            self.start_again()

    def start_again(self) -> None:
        """Drop what is here."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self._have = 0
        self._is_whole = False

    def run(self) -> str:
        """Bring the rest; return the SHA-256 of the whole object in hex.

        Raises UnreachableError where its server gives it up, or we do, and ObjectChangedError where
        it has another length.
        """
        keep_trying(self._where, self._attempt, self._is_over, lambda: self._have)
        return self._hash.hexdigest()

    def _is_over(self) -> bool:
        if self._num_bytes is None:
            return self._is_whole
        return self._have == self._num_bytes and (self._num_bytes > 0 or self._is_whole)

    def _attempt(self) -> None:
        with self._store.get(self._where.name, self._have, self._num_bytes) as reply:
            if reply.start != self._have:
                self.start_again()
            self._check_length(reply)
            for chunk in reply.chunks:
                if self._have + len(chunk) > self._limit:
                    raise ObjectChangedError
                self._file.write(chunk)
                self._hash.update(chunk)
                self._have += len(chunk)
                self._note(len(chunk))
        needed = self._num_bytes if self._num_bytes is not None else reply.num_bytes
        if needed is not None and self._have < needed:
            raise TransferError("the connection ended in the middle")
        self._is_whole = True

    def _check_length(self, reply: Reply) -> None:
        """Refuse another length before any byte is written, where the server says how long it is."""
        told = reply.num_bytes
        if told is not None and (told > self._limit or (self._num_bytes not in (None, told))):
            raise ObjectChangedError
