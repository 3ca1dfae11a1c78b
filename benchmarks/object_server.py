"""A server of objects on loopback, for measurements and tests: ranges, a rate, what was asked for.

`python -m http.server` answers a range with the whole, and `moto` copies an object for each range.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

CHUNK_BYTES = 1 << 18
RANGE = re.compile(r"bytes=\d+-\d+")  # with its end: of images, not the rest of a shard


class Link:
    """So many bytes a second, for all connections together; 0 is no limit."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def send(self, num_bytes: int) -> None:
        """Wait for as long as the link takes for so many bytes."""
        if not self.bytes_per_s:
            return
        with self._lock:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + num_bytes / self.bytes_per_s
        time.sleep(max(0.0, self._free_at - time.monotonic()))


class ObjectServer(ThreadingHTTPServer):
    """Serves the files of a folder, each answer `delay_s` late. `asked` counts requests by path,
    `wholes` those up to an object's end, `num_sent` the bytes of bodies.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        folder: Path,
        bytes_per_s: float = 0.0,
        handler: type["Objects"] | None = None,
        host: str = "127.0.0.1",
        delay_s: float = 0.0,
    ) -> None:
        super().__init__((host, 0), handler or Objects)
        self.folder = folder
        self.link = Link(bytes_per_s)
        self.delay_s = delay_s
        self.asked: Counter[str] = Counter()
        self.wholes: Counter[str] = Counter()
        self.num_sent = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_address[1]}"

    def __enter__(self) -> "ObjectServer":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Clients may go away."""


class Objects(BaseHTTPRequestHandler):
    """Answers one request; tests override `content` and `answer` to misbehave."""

    protocol_version = "HTTP/1.1"
    server: ObjectServer

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        """Answer with an object, or a range of it."""
        name = unquote(urlsplit(self.path).path).strip("/")
        with self.server.lock:
            self.server.asked[name] += 1
            if not RANGE.fullmatch(self.headers.get("Range", "")):
                self.server.wholes[name] += 1
        time.sleep(self.server.delay_s)
        data = self.content(name)
        if data is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.answer(name, data)

    def content(self, name: str) -> bytes | None:
        """Read the object of a name; None where there is none."""
        path = self.server.folder / name
        if not path.is_file():
            return None
        found = path.stat()
        return _content(path, found.st_mtime_ns, found.st_size)

    def answer(self, name: str, data: bytes) -> None:
        """Send it, or what of it was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self.send(200, data)
            return
        start = int(match.group(1))
        end = int(match.group(2) or len(data) - 1) + 1
        if start >= len(data):
            self.send(416, b"")
            return
        self.send(206, data[start:end], f"bytes {start}-{min(end, len(data)) - 1}/{len(data)}")

    def send(self, status: int, body: bytes, content_range: str = "") -> None:
        """Send an answer as fast as the link is."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        rate = self.server.link.bytes_per_s
        size = min(CHUNK_BYTES, max(4096, int(0.02 * rate))) if rate else CHUNK_BYTES
        for chunk in pieces(body, size):
            self.server.link.send(len(chunk))
            with self.server.lock:  # before the client can have it
                self.server.num_sent += len(chunk)
            self.wfile.write(chunk)


@lru_cache(maxsize=8)
def _content(path: Path, changed_ns: int, num_bytes: int) -> bytes:
    """Read a file; kept, as a range of a large one would cost reading it all."""
    return path.read_bytes()


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    """Cut a body into pieces."""
    for start in range(0, len(body), size):
        yield body[start : start + size]
