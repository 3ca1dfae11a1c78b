"""From a JPEG's headers to what the compiled readers of its scan want."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from preprocess.jpeg.pixel_sums import SQUARE
from preprocess.jpeg.scan_reader import Blocks, Codes, Tokens, read_codes
from preprocess.jpeg.scratch import KeptArrays
from preprocess.jpeg.strips import OneScan, strip_size
from shards.scans.headers import (
    Headers,
    described_codes,
    layout,
    read_scan,
    read_segments,
    segments_of,
)
from shards.tiles.header import LOOK
from shards.tiles.huffman import SLACK
from shards.tiles.transform import ZIGZAG, dct_scales

_WHOLE_BAND = b"\x00\x3f\x00"  # of a scan: all coefficients, all bits
_SCALES = dct_scales().ravel()[ZIGZAG]
_KEPT = 64  # sets of quantisation tables
_KEPT_CODES = 4  # sets of Huffman tables, 120 kB each
_ROWS = 8  # of Huffman tables: DC and AC of up to four components


@dataclass
class Opened:
    """A JPEG that was read up to its first scan, with the payload of that one's SOS."""

    data: bytes
    headers: Headers
    payload: bytes
    segments: Iterator[tuple[int, int, int]]  # the rest of them

    @property
    def is_one_scan(self) -> bool:
        """Tell whether the scan is all of a sequential image."""
        components = len(self.headers.components)
        return not self.headers.progressive and self.payload[:1] == bytes([components])


def open_jpeg(data: bytes) -> Opened | None:
    """Read a file up to its first scan; None where it is no JPEG of a kind that is read here."""
    headers = Headers()
    try:
        segments = segments_of(data)
        payload = read_segments(headers, data, segments)
    except (IndexError, struct.error, ValueError):
        return None
    return Opened(data, headers, payload, segments) if headers.components and payload else None


def is_usual(headers: Headers) -> bool:
    """Tell whether a frame is grey, or YCbCr with chroma in one block of an MCU, luma up to four."""
    luma, *chroma = [(c.horizontal, c.vertical) for c in headers.components]
    return not chroma or (max(luma) <= 2 and all(factors == (1, 1) for factors in chroma))


def check_colours(headers: Headers) -> None:
    """Raise ValueError for what is neither grey nor YCbCr with all its quantisation tables."""
    if any(c.quantisation not in headers.quantisation for c in headers.components):
        raise ValueError("no DQT")
    if len(headers.components) not in (1, 3):
        raise ValueError("neither grey nor of three colours")
    if len(headers.components) == 3 and (not headers.transformed or headers.named == [*b"RGB"]):
        raise ValueError(
            "stored as RGB"
        )  # without Adobe's segment decoders would take it for YCbCr


def quants_of(headers: Headers) -> np.ndarray:
    """Return what the coefficients of each component are multiplied by: float32 [components, 64]."""
    return _scaled(tuple(headers.quantisation[c.quantisation] for c in headers.components))


@lru_cache(_KEPT)
def _scaled(tables: tuple[bytes, ...]) -> np.ndarray:
    quants = [
        np.frombuffer(table, ">u2" if table[0] >= 16 else np.uint8, 64, 1) * _SCALES
        for table in tables
    ]
    return np.array(quants, np.float32)


def open_scan(opened: Opened, scratch: KeptArrays) -> tuple[OneScan, Codes, Blocks]:
    """Prepare to read the one scan of an image.

    Raises ValueError where it is not all of the image, or cannot be for lack of bytes.
    """
    headers = opened.headers
    if opened.payload[-3:] != _WHOLE_BAND:
        raise ValueError("SOS")
    members = read_scan(headers, opened.payload)
    component, mcus_across, num_mcus = layout(headers)
    num_bytes = len(opened.data) - headers.scan
    if num_mcus * len(component) > 4 * num_bytes:  # a block has two codes, of a bit at least
        raise ValueError("more blocks than bits")
    sampling = [(c.horizontal, c.vertical) for c in headers.components]
    codes = _codes(headers, members, scratch)
    interval = headers.interval or num_mcus
    scan = OneScan(
        start=headers.scan,
        interval=interval,
        mcus_across=mcus_across,
        num_rows=num_mcus // mcus_across,
        width=headers.width,
        height=headers.height,
        factors=np.array(sampling, np.int64),
        bits=scratch.array("bits", num_bytes + SLACK, np.uint8),
        ends=scratch.exactly("ends", -(-num_mcus // interval) + 1, np.uint64),
        dc=scratch.array("dc", 4, np.int64),
    )
    blocks = Blocks(
        coefs=scratch.exactly("coefs", strip_size(mcus_across, sampling) + SQUARE, np.float32),
        quants=quants_of(headers),
        component=component,
        where=scratch.array("where", len(component), np.int64),
        step=scratch.array("step", len(component), np.int64),
    )
    return scan, codes, blocks


def _new_codes() -> Codes:
    return Codes(
        raw=np.zeros((_ROWS, 272), np.uint8),
        is_dc=np.zeros(_ROWS, np.bool_),
        row_of=np.zeros((0, 2), np.int64),
        lookups=np.zeros((_ROWS, 1 << LOOK), np.uint32),
        longest=np.zeros((_ROWS, 17, 2), np.int64),
        symbols=np.zeros((_ROWS, 256), np.uint8),
    )


def _codes(headers: Headers, members: list[int], scratch: KeptArrays) -> Codes:
    """Read the Huffman tables of a scan, whose members are all components, or take them from before.

    Most photographs have those of the standard.
    """
    kept: dict[Any, Codes] = scratch.once(dict)
    tables = [described_codes(headers, kind, members) for kind in ("dc", "ac")]
    key = (*tables[0], *tables[1])
    found = kept.get(key)
    if found is None:
        spare = kept.pop(next(iter(kept))) if len(kept) >= _KEPT_CODES else _new_codes()
        found = kept[key] = _read_tables(tables, spare)
    return found


def _read_tables(tables: list[list[bytes]], codes: Codes) -> Codes:
    """Read the tables of DC and AC, each once, into rows of `codes`."""
    codes = codes._replace(row_of=np.zeros((len(tables[0]), 2), np.int64))
    rows: dict[tuple[int, bytes], int] = {}
    for column, of_members in enumerate(tables):
        for member, described in enumerate(of_members):
            row = rows.setdefault((column, described), len(rows))
            codes.raw[row, : len(described)] = np.frombuffer(described, np.uint8)
            codes.is_dc[row] = column == 0
            codes.row_of[member, column] = row
    read_codes(codes, len(rows))
    return codes


def tokens_for(num_blocks: int, most: int, scratch: KeptArrays) -> Tokens:
    """Make room for what blocks say, at most `most` tokens."""
    return Tokens(
        levels=scratch.array("levels", num_blocks, np.int16),
        counts=scratch.array("counts", num_blocks, np.uint8),
        tokens=scratch.array("tokens", min(64 * num_blocks, most) + 64, np.uint32),
        frequencies=scratch.array("frequencies", 4 * 257, np.int64),
    )
