"""Read one image out of a Parquet file without reading its row group: only the page that holds it.

pyarrow reads whole row groups: 100 images, or all of a file, for each one of a shuffled set. What is
in a footer comes from pyarrow, which unpacks the pages too; what is between is here: the headers of
pages, definition levels and dictionary indices (runs and packed bits).
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from preprocess.reading.thrift import read_struct, read_varint
from preprocess.record import MAX_BYTES
from shards.errors import one_line

_DATA = 0  # types of pages
_DICTIONARY = 2
_DATA_V2 = 3
_PLAIN = 0  # encodings
_BY_DICTIONARY = (2, 8)
_CODECS = {  # as the footer names them: as pyarrow.Codec does
    "SNAPPY": "snappy",
    "GZIP": "gzip",
    "ZSTD": "zstd",
    "BROTLI": "brotli",
    "LZ4_RAW": "lz4_raw",
}
_HEADER_BYTES = 256  # enough for most
_MAX_HEADER_BYTES = 1 << 20
_MAX_VALUES = 1 << 22  # of a page
_MAX_PAGES = 1 << 20  # of a column in a row group

Unpack = Callable[[bytes, int], bytes]


class UnknownPages(Exception):
    """The column is written in a way that is not read here; pyarrow may know it."""


@dataclass(frozen=True)
class ColumnChunk:
    """A column of byte arrays in one row group, as the footer describes it."""

    start: int  # bytes in the file
    length: int
    codec: str  # the footer's name
    num_rows: int
    max_level: int  # the definition level of a value that is there


@dataclass(frozen=True, eq=False)
class Page:
    """A page of data: where it is, and which rows it holds."""

    first_row: int
    num_rows: int
    at: int  # bytes in the file, behind its header
    length: int
    size: int  # unpacked
    header: dict[int, Any]


def read_value(path: Path, chunk: ColumnChunk, row: int) -> bytes | None:
    """Return the value of a row of the row group; None where it is null.

    Raises UnknownPages, OSError where the file cannot be read, and ValueError for damage.
    """
    try:
        dictionary, pages = _pages(path, chunk)
        page = next((page for page in pages if row < page.first_row + page.num_rows), None)
        if page is None:
            raise ValueError(f"row {row} is in none of the {len(pages)} pages")
        return _values(path, chunk, dictionary, page)[row - page.first_row]
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise ValueError(f"damaged ({one_line(error)})") from error  # a field of another kind


@lru_cache(4096)
def _pages(path: Path, chunk: ColumnChunk) -> tuple[Page | None, tuple[Page, ...]]:
    """List the pages of a column in a row group: (that of the dictionary, those of data)."""
    dictionary = None
    pages: list[Page] = []
    rows = 0
    with path.open("rb") as file:
        at = chunk.start
        while at < chunk.start + chunk.length and rows < chunk.num_rows:
            header, at = _header(file, at)
            length = header.get(3, -1)
            size = header.get(2, -1)
            if (
                not 0 <= length <= MAX_BYTES
                or not 0 <= size <= MAX_BYTES
                or len(pages) > _MAX_PAGES
            ):
                raise ValueError(f"a page of {length:,} bytes, {size:,} unpacked")
            described = header.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(header[1], 0))
            if described is not None:
                num = described.get(1, -1)
                if not 0 <= num <= _MAX_VALUES:
                    raise ValueError(f"a page of {num:,} values")
                page = Page(rows, num, at, length, size, header)
                if header[1] == _DICTIONARY:
                    dictionary = page
                else:
                    pages.append(page)
                    rows += num
            at += length
    return dictionary, tuple(pages)


@lru_cache(2)  # two pages: rows in order read each once
def _values(
    path: Path, chunk: ColumnChunk, dictionary: Page | None, page: Page
) -> Sequence[bytes | None]:
    """Return the values of a page."""
    levels, encoding, data = _unpacked(path, chunk, page)
    there = None
    if chunk.max_level:
        found = _runs(levels, chunk.max_level.bit_length(), page.num_rows)
        there = found == chunk.max_level
    num = page.num_rows if there is None else int(there.sum())
    if encoding == _PLAIN:
        values = _plain(data, num)
    elif encoding in _BY_DICTIONARY and dictionary is not None and data:
        words = _dictionary(path, chunk, dictionary)
        numbers = _runs(data[1:], data[0], num)
        if num and not 0 <= int(numbers.max()) < len(words):
            raise ValueError("a page names words that its dictionary lacks")
        values = [words[number] for number in numbers.tolist()]
    else:
        raise UnknownPages(f"encoding {encoding}")
    if there is None or num == page.num_rows:
        return values
    rest = iter(values)
    return [next(rest) if here else None for here in there.tolist()]


@lru_cache(2)
def _dictionary(path: Path, chunk: ColumnChunk, page: Page) -> Sequence[bytes]:
    return _plain(_unpack(chunk.codec, _bytes(path, page), page.size), page.num_rows)


def _unpacked(path: Path, chunk: ColumnChunk, page: Page) -> tuple[bytes, int, bytes]:
    """Return the definition levels of a page, the encoding of its values, and these."""
    raw = _bytes(path, page)
    if page.header[1] == _DATA_V2:
        described = page.header[8]
        levels = described.get(5, 0)
        repeated = described.get(6, 0)
        if not 0 <= levels <= page.size or repeated != 0:
            raise UnknownPages("repeated values")
        data = raw[levels:]
        if described.get(7, True):
            data = _unpack(chunk.codec, data, page.size - levels)
        return raw[:levels], described.get(4, -1), data
    described = page.header[5]
    data = _unpack(chunk.codec, raw, page.size)
    if not chunk.max_level:
        return b"", described.get(2, -1), data
    if described.get(3, 3) != 3 or len(data) < 4:
        raise UnknownPages("levels as packed bits alone")
    length = int.from_bytes(data[:4], "little")
    return data[4 : 4 + length], described.get(2, -1), data[4 + length :]


def _bytes(path: Path, page: Page) -> bytes:
    with path.open("rb") as file:
        file.seek(page.at)
        raw = file.read(page.length)
    if len(raw) < page.length:
        raise ValueError("the file is cut short")
    return raw


def _unpack(codec: str, raw: bytes, size: int) -> bytes:
    if codec == "UNCOMPRESSED":
        return raw
    if codec not in _CODECS:
        raise UnknownPages(f"compression {codec}")
    import pyarrow

    if not raw and not size:
        return b""
    unpacked = pyarrow.Codec(_CODECS[codec]).decompress(raw, size, asbytes=True)
    return bytes(unpacked)


def _plain(data: bytes, num: int) -> list[bytes]:
    """Part byte arrays, each behind its length."""
    values = []
    at = 0
    for _ in range(num):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise ValueError("a value reaches beyond its page")
        values.append(data[at : at + length])
        at += length
    return values


def _runs(data: bytes, width: int, num: int) -> np.ndarray:
    """Decode numbers of `width` bits written as runs and packed bits: int64 [num]."""
    if not 0 <= width <= 32:
        raise ValueError(f"numbers of {width} bits")
    found: list[np.ndarray] = []
    left = num
    at = 0
    while left > 0:
        kind, at = read_varint(data, at)
        if kind & 1:
            count = (kind >> 1) * 8
            bits = data[at : at + (kind >> 1) * width]
            at += (kind >> 1) * width
            whole = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
            count = min(count, left) if not width else min(count, left, len(whole) // width)
            if not count:
                raise ValueError("numbers are missing in a page")
            packed = whole[: count * width].reshape(count, width).astype(np.int64)
            found.append(packed @ (1 << np.arange(width, dtype=np.int64)))
        else:
            count = min(kind >> 1, left)
            step = (width + 7) // 8
            if not count or at + step > len(data):
                raise ValueError("numbers are missing in a page")
            found.append(np.full(count, int.from_bytes(data[at : at + step], "little")))
            at += step
        left -= count
    return np.concatenate(found) if found else np.zeros(0, np.int64)


# headers of pages


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """Read the header of a page: (its fields by number, where the page begins)."""
    num = _HEADER_BYTES
    while True:
        file.seek(at)
        data = file.read(num)
        try:
            header, end = read_struct(data)
            return header, at + end
        except IndexError:  # it goes on
            if num >= _MAX_HEADER_BYTES or len(data) < num:
                raise ValueError("the header of a page is damaged") from None
            num *= 16
