"""Give up on a server that is silent or sends a trickle, in whatever part of its answer."""

import contextlib
import socket
import threading
from types import TracebackType

from shards.remote.patience import Patience


class Watchdog:
    """Shuts a socket down where less arrives within a window than it must.

    A timeout of the socket is not enough: it starts again with each byte, and headers and the sizes
    of chunks are read by the byte. Costs one sleeping thread for each transfer.
    """

    def __init__(self, sock: socket.socket, limits: Patience) -> None:
        self._sock = sock
        self._limits = limits
        self._num_bytes = 0
        self._over = threading.Event()
        self.has_bitten = False
        sock.settimeout(limits.window_s)
        self._thread = threading.Thread(target=self._run, name="tarmac-watchdog", daemon=True)

    def count(self, num_bytes: int) -> None:
        """Note what has arrived."""
        self._num_bytes += num_bytes

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        needed = self._limits.min_bytes_per_s * self._limits.window_s
        before = 0
        while not self._over.wait(self._limits.window_s):
            if self._num_bytes - before < needed:
                self.has_bitten = True
                # not SSLSocket's own, which takes the session away from under the reader
                with contextlib.suppress(OSError):  # it has ended by itself
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
                return
            before = self._num_bytes
