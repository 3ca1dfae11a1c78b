"""Write a tiled JPEG: headers, a list of the tiles, the tiles."""

import struct
from dataclasses import dataclass

import numpy as np

from preprocess.jpeg.scan_coding import TILE_BYTES, Coding, plan_tiles, write_tiles
from preprocess.jpeg.scan_reader import Tokens
from preprocess.jpeg.scratch import KeptArrays
from shards.disk.format import MAX_TILES, TILES_MARKER, TILES_NAME
from shards.scans.headers import Component, Headers

_JFIF = bytes.fromhex("ffe0 0010 4a46494600 0101 00 0001 0001 0000")
_MOST = 0xFFFF  # bytes of a tile that the list has room for
_CLASSES = (0x00, 0x10, 0x01, 0x11)  # of Huffman tables: luma DC, luma AC, chroma DC, chroma AC


@dataclass(frozen=True)
class Tiled:
    """A tiled file, and the sums of its pixels (R, G, B, then their squares) where it has them."""

    data: bytes
    width: int
    height: int
    sums: tuple[int, ...] | None


def tile_file(
    headers: Headers, said: Tokens, of_mcu: tuple[np.ndarray, int], interval: int, grey: bool,
    scratch: KeptArrays,
) -> bytes:  # fmt: skip
    """Return the file of what `said` says: a tile has `interval` MCUs.

    `of_mcu` is the component of each of its blocks, and how many MCUs there are. Where `headers`
    have chroma which is not said, `grey` is to be set: its blocks are empty then.
    """
    components, num_mcus = of_mcu
    coding = scratch.once(new_coding)
    sizes = np.empty(4, np.int64)
    num_bits = plan_tiles(said, components, num_mcus, interval, grey, coding, sizes)
    lengths = np.empty(-(-num_mcus // interval), np.int64)
    most = num_bits // 8 + 16 + len(lengths)
    raw = scratch.array("raw", most, np.uint8)
    out = scratch.array("out", 2 * most + TILE_BYTES * len(lengths), np.uint8)
    size = write_tiles(said, components, num_mcus, interval, grey, coding.codes, raw, out, lengths)
    tables = [coding.described[row, :end].tobytes() for row, end in enumerate(sizes) if end]
    listed = len(lengths) <= MAX_TILES and (size <= _MOST or int(lengths.max()) <= _MOST)
    tiles = lengths.astype(">u2").tobytes() if listed else None
    start = _headers(headers, tables, interval, tiles)
    return b"".join([start, out[:size].data, b"\xff\xd9"])


def new_coding() -> Coding:
    """Make room for the codes of an image."""
    return Coding(
        codes=np.zeros((4, 256), np.uint32),
        described=np.zeros((4, 272), np.uint8),
        heap=np.zeros(257, np.int64),
        other=np.zeros(257, np.int64),
        size=np.zeros(257, np.int64),
        bits=np.zeros(258, np.int64),
        before=np.zeros(4, np.int64),
    )


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _headers(headers: Headers, tables: list[bytes], interval: int, tiles: bytes | None) -> bytes:
    """Return all up to the scan; `tables` are the Huffman tables without their class bytes.

    Without a list of `tiles` a reader decodes the whole image.
    """
    components = [
        Component(i, c.horizontal, c.vertical, c.quantisation)
        for i, c in enumerate(headers.components, 1)
    ]
    used = sorted({c.quantisation for c in components})
    wide = any(headers.quantisation[number][0] >= 16 for number in used)  # 16-bit tables need SOF1
    frame = struct.pack(">BHHB", 8, headers.height, headers.width, len(components))
    frame += b"".join(
        bytes([c.identifier, c.horizontal << 4 | c.vertical, c.quantisation]) for c in components
    )
    scan = b"".join(
        bytes([c.identifier, 0x00 if i == 0 else 0x11]) for i, c in enumerate(components)
    )
    return b"".join(
        [
            b"\xff\xd8",
            _JFIF,
            b"" if tiles is None else _segment(TILES_MARKER, TILES_NAME + tiles),
            *(_segment(0xDB, headers.quantisation[number]) for number in used),
            _segment(0xC1 if wide else 0xC0, frame),
            *(
                _segment(0xC4, bytes([kind]) + table)
                for kind, table in zip(_CLASSES, tables, strict=False)
            ),
            _segment(0xDD, struct.pack(">H", interval)),
            _segment(0xDA, bytes([len(components)]) + scan + b"\x00\x3f\x00"),
        ]
    )
