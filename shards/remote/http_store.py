"""Objects of an HTTP server, by the standard library: one request each, nothing believed.

fsspec's HTTP file system takes a whole body for a range, never tries again and never tires of a
trickle, so plain http:// and https:// are read here.
"""

import base64
import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.util import find_spec
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from shards.remote import patience
from shards.remote.address import Address
from shards.remote.patience import (
    MissingError,
    ObjectChangedError,
    Reply,
    TransferError,
    UnreachableError,
)
from shards.remote.slow_server import Watchdog

CHUNK_BYTES = 1 << 20
MAX_REDIRECTS = 5
TOO_SLOW = "the server sends too slowly"
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}
_ABSENT = {404, 410}
_SAFE = "/%:@!$&'()*+,;=~-._"


class HttpStore:
    """Reads objects below an address. Threads may share one: each request has its own connection."""

    def __init__(self, root: Address) -> None:
        self.root = root
        self._headers = {
            "User-Agent": "tarmac",
            "Accept-Encoding": "identity",  # the bytes that were hashed
            "Connection": "close",
            **_configured_headers(root.scheme),
        }

    @contextmanager
    def get(
        self, name: str, start: int, num_bytes: int | None, stop: int | None = None
    ) -> Iterator[Reply]:
        """Ask for an object from byte `start` on, up to `stop` if given; how long it is the server
        says, too. What is not read of the answer is cut off.

        A server that ignores the range answers from 0. Raises TransferError for what may pass,
        ObjectChangedError where the object is shorter, UnreachableError for what stays.
        """
        where = self.root / name
        headers = dict(self._headers)
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        with ExitStack() as stack:
            with _plain_errors(where):
                answer = self._answer(str(where), headers)
                response, watchdog = stack.enter_context(answer)
                first, total = _place(response, start)
            yield Reply(first, total, _chunks(response, watchdog, where))

    @contextmanager
    def _answer(
        self, url: str, headers: dict[str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, Watchdog]]:
        """Follow redirects to an answer that has the bytes. `url` may hold a signature from here on:
        it is not shown.
        """
        asked = url
        for _ in range(MAX_REDIRECTS + 1):
            connection, target, more = _connection(url)
            with closing(connection):
                connection.connect()
                with Watchdog(connection.sock, patience.PATIENCE) as watchdog:
                    with _plain_errors(asked, watchdog):
                        connection.request("GET", target, headers={**headers, **more})
                        response = connection.getresponse()
                    if response.status not in REDIRECTS:
                        _check_status(response, asked)
                        yield response, watchdog
                        return
                    url, headers = _redirected(url, response, headers, asked)
        raise UnreachableError(
            f"{asked}: more than {MAX_REDIRECTS} redirects; give its own address"
        )


def _redirected(
    url: str, response: http.client.HTTPResponse, headers: dict[str, str], asked: str
) -> tuple[str, dict[str, str]]:
    """Tell where to ask next, and with which headers: credentials stay with their host."""
    there = urljoin(url, response.getheader("Location") or "")
    old = urlsplit(url)
    new = urlsplit(there)
    if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme != "https"):
        raise UnreachableError(
            f"{asked}: the server sends elsewhere, from {old.scheme} to "
            f"{new.scheme if new.scheme.isalnum() else 'another scheme'}, which is not followed; "
            f"give the address of the object itself"
        )
    if (old.scheme, old.netloc) != (new.scheme, new.netloc):
        own = {"User-Agent", "Accept-Encoding", "Connection", "Range"}
        headers = {name: value for name, value in headers.items() if name in own}
    return there, headers


def _connection(url: str) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """Prepare a connection, through the proxy that the environment names, and what to ask for."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{parts.query}" if parts.query else "")
    secure = parts.scheme == "https"
    proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    if not proxy:
        return _connect_to(host, parts.port, secure), target, {}
    by = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    given = f"{unquote(by.username)}:{unquote(by.password or '')}" if by.username else ""
    login = {"Proxy-Authorization": f"Basic {base64.b64encode(given.encode()).decode()}"}
    login = login if given else {}
    connection = _connect_to(by.hostname or "", by.port or 80, secure)
    if secure:
        connection.set_tunnel(host, parts.port, headers=login)
        return connection, target, {}
    return connection, f"http://{parts.netloc}{target}", login


def _connect_to(host: str, port: int | None, secure: bool) -> http.client.HTTPConnection:
    limit = patience.PATIENCE.connect_s
    if secure:
        return http.client.HTTPSConnection(host, port, timeout=limit, context=_context())
    return http.client.HTTPConnection(host, port, timeout=limit)


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading the system's certificates costs 20 ms


def _check_status(response: http.client.HTTPResponse, asked: str) -> None:
    status = response.status
    if status in (200, 206):
        encoding = (response.getheader("Content-Encoding") or "identity").lower()
        if encoding != "identity":
            raise UnreachableError(
                f"{asked}: the server sends it compressed ({encoding[:20]!r}), which is not what "
                f"was asked for; serve shards as they are"
            )
        return
    if status == 416:
        raise ObjectChangedError
    if status in TRY_AGAIN:
        raise TransferError(f"the server answers {status}", _retry_after(response))
    if status in _ABSENT:
        raise MissingError(
            f"{asked}: is not there (the server answers {status}); check the address"
        )
    if status in (401, 403, 407):
        raise UnreachableError(
            f"{asked}: access is refused (the server answers {status}); give credentials as "
            f"headers of {asked.partition('://')[0]} in ~/.config/fsspec, or let it be read"
        )
    raise UnreachableError(f"{asked}: the server answers {status}; check the address")


def _retry_after(response: http.client.HTTPResponse) -> float | None:
    """Read how long the server asks to wait: seconds or a date."""
    text = response.getheader("Retry-After") or ""
    try:
        if text.isdecimal():
            return float(text[:9])
        return parsedate_to_datetime(text).timestamp() - time.time() if text else None
    except (ValueError, TypeError, OverflowError):
        return None


def _place(response: http.client.HTTPResponse, start: int) -> tuple[int, int | None]:
    """Tell where an answer starts in its object, and how long the object is, if the server says."""
    if response.status == 200:
        return 0, response.length  # None where the body ends with the connection
    unit, _, rest = (response.getheader("Content-Range") or "").partition(" ")
    places, _, total = rest.partition("/")
    first = places.partition("-")[0]
    if unit != "bytes" or not first.isdecimal() or int(first) != start:
        raise TransferError("the server answers with another range than was asked for")
    return start, int(total) if total.isdecimal() else None


def _chunks(
    response: http.client.HTTPResponse, watchdog: Watchdog, where: Address
) -> Iterator[bytes]:
    while True:
        with _plain_errors(where, watchdog):
            chunk = response.read1(CHUNK_BYTES)
        if watchdog.has_bitten:
            raise TransferError(TOO_SLOW)
        if not chunk:
            return
        watchdog.count(len(chunk))
        yield chunk


@contextmanager
def _plain_errors(where: Address | str, watchdog: Watchdog | None = None) -> Iterator[None]:
    """Turn what the library raises into our errors, without the addresses in its texts. After the
    watchdog has ended a connection, what fails in it fails for that reason.
    """
    try:
        yield
    except (TransferError, ObjectChangedError, UnreachableError):
        raise
    except ssl.SSLCertVerificationError:
        raise UnreachableError(
            f"{where}: the server's certificate is not trusted; give SSL_CERT_FILE the "
            f"certificates of who signed it"
        ) from None
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # the last two: of a connection that was shut down
        is_ours = watchdog is not None and watchdog.has_bitten
        raise TransferError(TOO_SLOW if is_ours else _said(error)) from None


def _said(error: Exception) -> str:
    """Spell what went wrong without what a server or a library wrote, which may hold secrets."""
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return f"the connection failed: {error.strerror}"
    return f"the connection failed: {type(error).__name__}"


def _configured_headers(scheme: str) -> dict[str, str]:
    """Read the headers that fsspec's own configuration names for this protocol, if any."""
    if find_spec("fsspec") is None:
        return {}
    from fsspec.config import conf

    settings = conf.get(scheme, {})
    headers = settings.get("headers") or settings.get("client_kwargs", {}).get("headers") or {}
    return {str(name): str(value) for name, value in headers.items()}
