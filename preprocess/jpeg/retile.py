"""Tile a JPEG without loss: the same coefficients with new Huffman codes."""

import struct
from collections.abc import Callable

import numpy as np

from preprocess.jpeg.scan_coding import count_symbols, limited_bits, optimal_lengths, write_tiles
from shards.disk.format import MAX_TILES, TILES_MARKER, TILES_NAME
from shards.scans.bits import left_over, new_state
from shards.scans.block_grid import Grid
from shards.scans.headers import (
    Component,
    Headers,
    layout,
    read_scan,
    read_segments,
    scans_of,
    segments_of,
    tables_of,
)
from shards.scans.progressive import read_scans
from shards.scans.sequential import read_coefficients

_JFIF = bytes.fromhex("ffe0 0010 4a46494600 0101 00 0001 0001 0000")


def retile(
    data: bytes, interval_of: Callable[[int, int], int], keep_grey: bool = False
) -> bytes | None:
    """Rewrite a JPEG as baseline with restart markers, optimised codes and no metadata; None where
    not possible.

    `interval_of(MCUs of a row, rows)` chooses the restart interval. The coefficients stay the same,
    so every decoder gives the same pixels. A grey image gets two empty chroma planes, unless
    `keep_grey`: an RGB one of equal pixels. Arithmetic, 12-bit and CMYK files are not rewritten,
    nor damaged ones or progressive ones that lack scans.
    """
    headers = Headers()
    try:
        read = _read(headers, data)
    except (IndexError, struct.error, ValueError):
        return None
    if read is None:
        return None
    levels, counts, tokens = read
    grey = len(headers.components) == 1 and not keep_grey
    blocks, mcus_per_row, num_mcus = layout(headers)
    interval = interval_of(mcus_per_row, num_mcus // mcus_per_row)
    lengths, codes, described = _codes(
        count_symbols(levels, counts, tokens, blocks, interval, grey)
    )
    out = np.empty(8 * (len(tokens) + 2 * len(levels)) + 64, np.uint8)
    size = write_tiles(levels, counts, tokens, blocks, interval, grey, codes, lengths, out)
    start = _write_headers(headers, described, interval, _tile_lengths(out[:size]), grey)
    return start + out[:size].tobytes() + b"\xff\xd9"


def _read(headers: Headers, data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Read DC levels, token counts and tokens as `read_coefficients` has them; None where the scans
    are damaged.
    """
    segments = segments_of(data)
    payload = read_segments(headers, data, segments)
    if any(c.quantisation not in headers.quantisation for c in headers.components):
        raise ValueError("no DQT")
    if len(headers.components) not in (1, 3):
        raise ValueError("neither grey nor of three colours")
    if len(headers.components) == 3 and (not headers.transformed or headers.named == list(b"RGB")):
        # without Adobe's segment decoders would take it for YCbCr
        raise ValueError("stored as RGB")
    blocks, _, num_mcus = layout(headers)
    if headers.progressive or payload[0] < len(headers.components):
        grid = Grid(
            headers.width, headers.height, [(c.horizontal, c.vertical) for c in headers.components]
        )
        return read_scans(grid, scans_of(headers, data, segments, payload), headers.progressive)
    members = read_scan(headers, payload)
    dc = tables_of(headers, "dc", members)
    ac = tables_of(headers, "ac", members)
    scan = np.frombuffer(data, np.uint8)[headers.scan :]
    state = new_state()
    levels, counts, tokens, end = read_coefficients(
        scan, num_mcus, headers.interval, blocks, dc, ac, state
    )
    whole = end >= 0 and bytes(scan[end : end + 2]) == b"\xff\xd9" and left_over(state, end) == 0
    whole &= payload[-3:] == b"\x00\x3f\x00"
    return (levels, counts, tokens) if whole else None


def _codes(frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Make optimal codes: lengths and codes int64 [4, 256], and each table's DHT payload without
    its class byte.

    Tables of chroma that is not there are left out of the payloads.
    """
    lengths, codes = np.zeros((2, 4, 256), np.int64)
    described = []
    for table in range(4 if frequencies[2].any() else 2):
        size = optimal_lengths(frequencies[table])
        bits = limited_bits(size)
        symbols = np.lexsort((np.arange(256), size[:256]))
        symbols = symbols[size[:256][symbols] > 0]
        code = 0
        at = 0
        for length in range(1, 17):
            for _ in range(bits[length]):
                lengths[table, symbols[at]] = length
                codes[table, symbols[at]] = code
                code += 1
                at += 1
            code <<= 1
        described.append(bytes(bits[1:].tolist()) + bytes(symbols.tolist()))
    return lengths, codes, described


def _tile_lengths(scan: np.ndarray) -> np.ndarray:
    """Measure the entropy-coded bytes between the restart markers."""
    after_ff = scan[1:][scan[:-1] == 0xFF]
    markers = np.flatnonzero(scan[:-1] == 0xFF)[(after_ff >= 0xD0) & (after_ff <= 0xD7)]
    return np.diff(np.concatenate([[-2], markers, [len(scan)]])) - 2


def _write_headers(
    headers: Headers, described: list[bytes], interval: int, lengths: np.ndarray, add_chroma: bool
) -> bytes:
    def segment(marker: int, payload: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload

    components = headers.components * 3 if add_chroma else headers.components
    components = [
        Component(i + 1, c.horizontal, c.vertical, c.quantisation) for i, c in enumerate(components)
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
    classes = (0x00, 0x10, 0x01, 0x11)
    # otherwise a reader decodes the whole image
    listed = len(lengths) <= MAX_TILES and lengths.max() <= 0xFFFF
    tiles = segment(TILES_MARKER, TILES_NAME + lengths.astype(">u2").tobytes()) if listed else b""
    return b"".join(
        [
            b"\xff\xd8",
            _JFIF,
            tiles,
            *(segment(0xDB, headers.quantisation[number]) for number in used),
            segment(0xC1 if wide else 0xC0, frame),
            *(
                segment(0xC4, bytes([number]) + table)
                for number, table in zip(classes, described, strict=False)
            ),
            segment(0xDD, struct.pack(">H", interval)),
            segment(0xDA, bytes([len(components)]) + scan + b"\x00\x3f\x00"),
        ]
    )
