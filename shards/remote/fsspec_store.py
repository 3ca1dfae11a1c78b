"""Objects of a bucket, by whichever file system fsspec has for the address: s3, gs, hf and others.

Read in ranges, each in a thread that is left behind where it does not end in time: a file system's
own limits differ, and s3fs tries each request several times on top of botocore's tries.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from shards.errors import DataError
from shards.remote import patience
from shards.remote.address import Address
from shards.remote.patience import (
    MissingError,
    ObjectChangedError,
    Reply,
    TransferError,
    UnreachableError,
)

BLOCK_BYTES = 8 << 20  # of a range: what a slow link may bring within the time that is allowed
INSTALL = "python -m pip install 'tarmac-vision[remote]'"
T = TypeVar("T")
_CODE = re.compile(r"[A-Za-z]{1,40}")
_BEYOND_END = "range not satisfiable"  # RFC 9110's phrase for the status 416
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


class FsspecStore:
    """Reads objects below an address. Threads may share one; after a fork it connects again."""

    def __init__(self, root: Address) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._system, self._path = _connect(root)

    @contextmanager
    def get(
        self, name: str, start: int, num_bytes: int | None, stop: int | None = None
    ) -> Iterator[Reply]:
        """Ask for an object from byte `start` on, block by block, up to `stop`, `num_bytes` or its
        end.

        Raises TransferError for what may pass, ObjectChangedError where the object is shorter,
        UnreachableError for what stays.
        """
        end = num_bytes if stop is None else stop
        yield Reply(start, None, self._blocks(name, start, end))

    def _blocks(self, name: str, start: int, end: int | None) -> Iterator[bytes]:
        with self._lock:
            if os.getpid() != self._process:  # the threads of a file system do not survive a fork
                self._system, self._path = _connect(self.root)
                self._process = os.getpid()
        path = f"{self._path}/{name}"
        where = self.root / name
        while end is None or start < end:
            stop = start + BLOCK_BYTES if end is None else min(start + BLOCK_BYTES, end)
            block = in_time(lambda: self._range(path, start, stop), stop - start, where)  # noqa: B023
            if len(block) > stop - start:
                raise TransferError("the server answers with another range than was asked for")
            if block:
                yield block
            elif end is not None:
                raise ObjectChangedError  # a range beyond its end
            if len(block) < stop - start:
                return
            start = stop

    def _range(self, path: str, start: int, stop: int) -> bytes:
        try:
            return bytes(self._system.cat_file(path, start=start, end=stop))
        except Exception as error:
            if _is_beyond_end(error):
                return b""  # it ends where this range starts
            raise


def _connect(root: Address) -> tuple[Any, str]:
    """Make the file system of an address. Raises DataError with what to install."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(root.url, **_settings(root.scheme))
    except (ImportError, ModuleNotFoundError):
        raise DataError(
            f"{root}: {root.scheme}:// needs a package that is not installed: {INSTALL}"
        ) from None
    except ValueError:
        raise DataError(
            f"{root}: {root.scheme}:// is no protocol that is known here; give https://, s3://, "
            f"gs://, hf:// or a folder"
        ) from None
    except Exception as error:
        raise DataError(
            f"{root}: its file system cannot be opened ({type(error).__name__}); check the "
            f"credentials and settings that fsspec reads for {root.scheme}://"
        ) from None
    if hasattr(system, "retries"):
        system.retries = 1  # ours are counted, these multiply them
    return system, str(path).rstrip("/")


def _settings(scheme: str) -> dict[str, Any]:
    """Bound what s3fs waits for; whatever else is set comes from fsspec's configuration."""
    if scheme not in ("s3", "s3a"):
        return {"use_listings_cache": False} if scheme in ("gs", "gcs") else {}
    from fsspec.config import conf

    limits = patience.PATIENCE
    own = {
        "connect_timeout": limits.connect_s,
        "read_timeout": limits.window_s,
        "retries": {"max_attempts": 0},
    }
    given = conf.get(scheme, {}).get("config_kwargs", {})
    return {"config_kwargs": {**given, **own}, "use_listings_cache": False}


def in_time(work: Callable[[], T], num_bytes: int, where: Address) -> T:
    """Do `work` within the time that a transfer of `num_bytes` may take."""
    limits = patience.PATIENCE
    done: list[T] = []
    failed: list[Exception] = []
    ended = threading.Event()

    def run() -> None:
        try:
            done.append(work())
        except Exception as error:
            failed.append(error)
        ended.set()

    threading.Thread(target=run, name="tarmac-range", daemon=True).start()
    if not ended.wait(limits.window_s + num_bytes / limits.min_bytes_per_s):
        raise TransferError("the server does not answer in time")
    if failed:
        _raise_plain(failed[0], where)
    return done[0]


def _raise_plain(error: Exception, where: Address) -> None:
    """Turn what a file system raises into our errors. Its text is not shown: it may hold secrets."""
    if isinstance(error, TransferError):
        raise error
    code = _code(error)
    said = f" ({code})" if code else f" ({type(error).__name__})"
    if isinstance(error, FileNotFoundError) or code in ("NoSuchKey", "NoSuchBucket", "404"):
        raise MissingError(f"{where}: is not there{said}; check the address") from None
    if isinstance(error, PermissionError) or code in _REFUSED or "Credentials" in said:
        raise UnreachableError(
            f"{where}: access is refused{said}; give credentials where fsspec looks for them: the "
            f"environment, the cloud's own files or ~/.config/fsspec"
        ) from None
    if isinstance(error, IsADirectoryError):
        raise UnreachableError(f"{where}: is a folder, not an object; check the address") from None
    raise TransferError(f"the request failed{said}") from None


def _is_beyond_end(error: Exception) -> bool:
    """Tell whether a server refuses a range because the object ends where it starts.

    File systems name the answer's number in different places. In a text it may be part of a name.
    """
    answers = (error, getattr(error, "response", None))
    codes = [_code(error), *(str(getattr(each, "status_code", "")) for each in answers)]
    return not {"416", "InvalidRange"}.isdisjoint(codes) or _BEYOND_END in str(error).lower()


def _code(error: BaseException) -> str:
    """Find the code of botocore's or HTTP's error, such as SlowDown: letters or a number."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
        for candidate in (code, getattr(each, "status", ""), getattr(each, "code", "")):
            if _CODE.fullmatch(str(candidate)) or str(candidate).isdecimal():
                return str(candidate)
    return ""
