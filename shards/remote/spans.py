"""Bring some parts of one object, each into memory until it is whole."""

from collections.abc import Callable, Sequence

from shards.remote.address import Address
from shards.remote.patience import ObjectChangedError, ObjectStore, TransferError
from shards.remote.transfer import keep_trying

Span = tuple[int, int]  # the first byte of a part, and the one behind its last


class WholeAnswerError(Exception):
    """The server answers a range with the whole object."""


class SpansTransfer:
    """Parts of an object of `num_bytes`, by one request as long as that goes well.

    `spans` are in the order of the object, none of them empty; what is between two is thrown away.
    `accept` gets the bytes of each. With `takes_whole` an answer that begins at the object's start
    is read from there; without it such an answer raises WholeAnswerError.
    """

    def __init__(
        self,
        store: ObjectStore,
        where: Address,
        num_bytes: int,
        spans: Sequence[Span],
        accept: Callable[[Span, bytearray], None],
        note: Callable[[int], None] = lambda _: None,
        takes_whole: bool = False,
    ) -> None:
        self._store = store
        self._where = where
        self._num_bytes = num_bytes
        self._spans = spans
        self._accept = accept
        self._note = note
        self._takes_whole = takes_whole
        self._place = 0  # of the span that comes
        self._data = bytearray()  # of it, as far as it is here
        self._at = 0  # of the object: the byte that comes
        self._finished = 0  # bytes of spans

    def run(self) -> None:
        """Bring them all.

        Raises UnreachableError where the server gives the object up, or we do, ObjectChangedError
        where it has another length, and WholeAnswerError.
        """
        keep_trying(self._where, self._attempt, self._is_over, self._have)

    def _is_over(self) -> bool:
        return self._place == len(self._spans)

    def _have(self) -> int:
        return self._finished + len(self._data)

    def _attempt(self) -> None:
        self._at = max(self._at, self._spans[self._place][0])
        stop = self._spans[-1][1]
        with self._store.get(self._where.name, self._at, self._num_bytes, stop) as reply:
            if reply.num_bytes not in (None, self._num_bytes):
                raise ObjectChangedError
            if reply.start != self._at:
                self._go_back(reply.start)
            for chunk in reply.chunks:
                self._note(len(chunk))
                self._take(memoryview(chunk))
                if self._is_over():
                    return  # what the server sends beyond is cut off
        raise TransferError("the connection ended in the middle")

    def _go_back(self, start: int) -> None:
        if not self._takes_whole:
            raise WholeAnswerError
        self._at = start
        self._data = bytearray()

    def _take(self, chunk: memoryview) -> None:
        while len(chunk) and not self._is_over():
            start, stop = self._spans[self._place]
            if self._at < start:
                used = min(len(chunk), start - self._at)
            else:
                used = min(len(chunk), stop - self._at)
                self._data += chunk[:used]
            self._at += used
            chunk = chunk[used:]
            if self._at == stop:
                self._accept((start, stop), self._data)
                self._finished += stop - start
                self._data = bytearray()
                self._place += 1
