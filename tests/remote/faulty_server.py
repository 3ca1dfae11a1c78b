"""A server that does one thing wrong, or draws what it does wrong for each request."""

import random
import socket
import struct
import threading
import time
from collections import Counter

from benchmarks.object_server import Objects, ObjectServer, pieces
from shards.remote.patience import Patience

# Pauses that are seconds in earnest are hundredths here. A machine that is busy is no silent server:
# that one is told by windows that a transfer of a few bytes never needs.
HASTY = Patience(
    attempts=5,
    first_pause_s=0.002,
    longest_pause_s=0.02,
    connect_s=10.0,
    window_s=10.0,
    min_bytes_per_s=20_000,
    progress_bytes=1 << 20,
)
# for servers that never answer, or by the byte: what is right may take longer than that on a busy
# machine, and is then asked for again
IMPATIENT = HASTY._replace(window_s=0.25)
FAULTS = (
    "500",
    "503",
    "reset",
    "cut",
    "unmarked cut",
    "stretched",
    "flipped",
    "whole for a range",
    "wrong range",
    "trickle",
    "header trickle",
    "silence",
    "gzip",
    "garbage",
)
QUICK_FAULTS = tuple(
    name for name in FAULTS if name not in ("trickle", "header trickle", "silence")
)


class FaultyServer(ObjectServer):
    """Serves a folder; each request is wrong in a way that `rates` draws, or as `always` says."""

    def __init__(self, folder, rates=None, seed=0, always="") -> None:
        super().__init__(folder, handler=FaultyObjects)
        self.rates = rates or {}
        self.always = always
        self.only = ""  # objects whose name ends so; others are served well
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.stopping = threading.Event()

    def draw(self, name: str) -> str:
        if self.only and not name.endswith(self.only):
            return ""
        with self.lock:
            fault = self.always
            if not fault and self.rates:
                names, weights = zip(*self.rates.items(), strict=True)
                fault = self.random.choices([*names, ""], [*weights, 1 - sum(weights)])[0]
            self.done[fault] += 1
            return fault

    def __exit__(self, *given) -> None:
        self.stopping.set()
        super().__exit__(*given)


class FaultyObjects(Objects):
    server: FaultyServer

    def answer(self, name: str, data: bytes) -> None:
        fault = self.server.draw(name)
        if fault:
            self.close_connection = True
            getattr(self, "_" + fault.replace(" ", "_"))(name, data)
        else:
            super().answer(name, data)

    def _500(self, name, data) -> None:
        self.send(500, b"secret=of-the-server " * 4)

    def _503(self, name, data) -> None:
        self.send_response(503)
        self.send_header("Retry-After", self.server.random.choice(["0", "1", "x", "99999999999"]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _reset(self, name, data) -> None:
        self._head(len(data))
        self.wfile.write(data[: len(data) // 3])
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def _cut(self, name, data) -> None:
        self._head(len(data))
        self.wfile.write(data[: len(data) // 2])

    def _unmarked_cut(self, name, data) -> None:
        self._head(None)
        self.wfile.write(data[: len(data) * 2 // 3])

    def _stretched(self, name, data) -> None:
        self._head(None if self.server.random.random() < 0.5 else len(data) + 1000)
        self.wfile.write(data + bytes(1000))

    def _flipped(self, name, data) -> None:
        changed = bytearray(data)
        changed[self.server.random.randrange(len(data))] ^= 1 << self.server.random.randrange(8)
        super().answer(name, bytes(changed))

    def _whole_for_a_range(self, name, data) -> None:
        self.send(200, data)

    def _wrong_range(self, name, data) -> None:
        self.send(206, data[7:], f"bytes 7-{len(data) - 1}/{len(data)}")

    def _trickle(self, name, data) -> None:
        self._head(len(data))
        for piece in pieces(data, 64):
            self.wfile.write(piece)
            self.wfile.flush()
            if self.server.stopping.wait(0.064):  # 1 kB/s
                return

    def _header_trickle(self, name, data) -> None:
        for letter in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
            self.connection.sendall(bytes([letter]))
            if self.server.stopping.wait(0.01):
                return

    def _silence(self, name, data) -> None:
        self._head(len(data))
        self.server.stopping.wait(3)

    def _gzip(self, name, data) -> None:
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"abc")

    def _garbage(self, name, data) -> None:
        self.wfile.write(b"\x00\xff<html>\r\n\r\n" * 5)

    def _head(self, length) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()


def wait_until(holds, seconds: float = 60.0) -> bool:
    """Wait for something to become true."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.01)
    return False
