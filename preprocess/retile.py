"""Give a JPEG tiles without a second generation: the same coefficients behind other Huffman codes."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from preprocess.entropy import (
    count_symbols,
    decoding_table,
    limited_bits,
    optimal_lengths,
    read_coefficients,
    write_tiles,
)
from shards.format import MAX_TILES, TILES_MARKER, TILES_NAME

_BASELINE = (0xC0, 0xC1)  # SOF0, SOF1: sequential Huffman
_JFIF = bytes.fromhex("ffe0 0010 4a46494600 0101 00 0001 0001 0000")


@dataclass
class _Component:
    identifier: int
    horizontal: int
    vertical: int
    quantisation: int
    dc: int = 0
    ac: int = 0


@dataclass
class _Headers:
    """What the segments before the scan say."""

    width: int = 0
    height: int = 0
    components: list[_Component] = field(default_factory=list)
    quantisation: dict[int, bytes] = field(default_factory=dict)  # table -> precision/id byte and its values
    dc: dict[int, np.ndarray] = field(default_factory=dict)
    ac: dict[int, np.ndarray] = field(default_factory=dict)
    interval: int = 0
    scan: int = 0  # where the entropy-coded bytes start


def retile(data: bytes, interval_of: Callable[[int, int], int]) -> bytes | None:
    """Rewrite a baseline JPEG with restart markers, optimised codes and no metadata; None where that is not possible.

    `interval_of(MCUs of a row, rows)` chooses the restart interval. The coefficients stay the same, so every decoder
    gives the same pixels. A grey image gets two empty chroma planes: an RGB one of equal pixels. Progressive,
    arithmetic, 12-bit, CMYK and multi-scan files are not rewritten, nor damaged ones.
    """
    try:
        headers = _read_headers(data)
    except (IndexError, struct.error, ValueError):
        return None
    if headers is None:
        return None
    grey = len(headers.components) == 1
    blocks, mcus_per_row, num_mcus = _layout(headers)
    dc = _tables(headers, "dc")
    ac = _tables(headers, "ac")
    if dc is None or ac is None:
        return None
    scan = np.frombuffer(data, np.uint8)[headers.scan :]
    levels, counts, tokens, end = read_coefficients(scan, num_mcus, headers.interval, blocks, dc, ac)
    if end < 0 or bytes(scan[end : end + 2]) != b"\xff\xd9":
        return None
    interval = interval_of(mcus_per_row, num_mcus // mcus_per_row)
    lengths, codes, described = _codes(count_symbols(levels, counts, tokens, blocks, interval, grey))
    out = np.empty(8 * (len(tokens) + 2 * len(levels)) + 64, np.uint8)
    size = write_tiles(levels, counts, tokens, blocks, interval, grey, codes, lengths, out)
    start = _write_headers(headers, described, interval, _tile_lengths(out[:size]))
    return start + out[:size].tobytes() + b"\xff\xd9"


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the payload of each segment up to and with the first SOS."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("no SOI")
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("no marker")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2 or at + 2 + length > len(data):
            raise ValueError("segment length")
        yield marker, at + 4, at + 2 + length
        at += 2 + length
        if marker == 0xDA:
            return


def _read_headers(data: bytes) -> _Headers | None:
    headers, transformed = _Headers(), True
    for marker, start, end in _segments(data):
        payload = data[start:end]
        if marker in _BASELINE:
            _read_frame(headers, payload)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None
        elif marker == 0xDB:
            _read_quantisation(headers, payload)
        elif marker == 0xC4:
            _read_codes(headers, payload)
        elif marker == 0xDD:
            (headers.interval,) = struct.unpack(">H", payload)
        elif marker == 0xEE and payload[:5] == b"Adobe":
            transformed = payload[11] == 1
        elif marker == 0xDA:
            headers.scan = end
            if not transformed and len(headers.components) != 1:
                return None  # stored as RGB: without Adobe's segment decoders would take it for YCbCr
            return headers if _read_scan(headers, payload) else None
    return None


def _read_frame(headers: _Headers, payload: bytes) -> None:
    precision, headers.height, headers.width, count = struct.unpack_from(">BHHB", payload)
    if precision != 8 or count not in (1, 3) or not headers.height or not headers.width or headers.components:
        raise ValueError("frame")
    for i in range(count):
        identifier, sampling, table = payload[6 + 3 * i : 9 + 3 * i]
        component = _Component(identifier, sampling >> 4, sampling & 15, table)
        if not (1 <= component.horizontal <= 4 and 1 <= component.vertical <= 4):
            raise ValueError("sampling")
        headers.components.append(component)
    if [c.identifier for c in headers.components] == list(b"RGB"):
        raise ValueError("stored as RGB")


def _read_quantisation(headers: _Headers, payload: bytes) -> None:
    while payload:
        size = 65 if payload[0] < 16 else 129
        if len(payload) < size:
            raise ValueError("DQT")
        headers.quantisation[payload[0] & 15] = payload[:size]
        payload = payload[size:]


def _read_codes(headers: _Headers, payload: bytes) -> None:
    while payload:
        kind, counts = payload[0], np.frombuffer(payload[1:17], np.uint8).astype(np.int64)
        total = int(counts.sum())
        values = np.frombuffer(payload[17 : 17 + total], np.uint8)
        if len(counts) != 16 or len(values) != total:
            raise ValueError("DHT")
        table = decoding_table(counts, values)
        if not len(table):
            raise ValueError("DHT")
        (headers.ac if kind >> 4 else headers.dc)[kind & 15] = table
        payload = payload[17 + total :]


def _read_scan(headers: _Headers, payload: bytes) -> bool:
    """Take the table numbers; False unless all components are in this one scan, in the frame's order."""
    if not headers.components or payload[0] != len(headers.components):
        return False
    for i, component in enumerate(headers.components):
        identifier, tables = payload[1 + 2 * i : 3 + 2 * i]
        if identifier != component.identifier:
            return False
        component.dc, component.ac = tables >> 4, tables & 15
    known = all(c.quantisation in headers.quantisation for c in headers.components)
    return known and payload[-3:] == b"\x00\x3f\x00"


def _layout(headers: _Headers) -> tuple[np.ndarray, int, int]:
    """Tell the component of each block of an MCU, the MCUs of a row and of the image."""
    if len(headers.components) == 1:  # not interleaved: one block, whatever the factors say
        headers.components[0].horizontal = headers.components[0].vertical = 1
    widest = max(c.horizontal for c in headers.components)
    tallest = max(c.vertical for c in headers.components)
    blocks = [i for i, c in enumerate(headers.components) for _ in range(c.horizontal * c.vertical)]
    per_row = -(-headers.width // (8 * widest))
    return np.array(blocks, np.int64), per_row, per_row * -(-headers.height // (8 * tallest))


def _tables(headers: _Headers, kind: str) -> np.ndarray | None:
    tables: dict[int, np.ndarray] = getattr(headers, kind)
    numbers = [getattr(component, kind) for component in headers.components]
    return np.stack([tables[n] for n in numbers]) if all(n in tables for n in numbers) else None


def _codes(frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Make optimal codes: lengths and codes int64 [4, 256], and each table's DHT payload without its class byte."""
    lengths, codes = np.zeros((2, 4, 256), np.int64)
    described = []
    for table in range(4):
        size = optimal_lengths(frequencies[table])
        bits = limited_bits(size)
        symbols = np.lexsort((np.arange(256), size[:256]))
        symbols = symbols[size[:256][symbols] > 0]
        code, at = 0, 0
        for length in range(1, 17):
            for _ in range(bits[length]):
                lengths[table, symbols[at]], codes[table, symbols[at]] = length, code
                code, at = code + 1, at + 1
            code <<= 1
        described.append(bytes(bits[1:].tolist()) + bytes(symbols.tolist()))
    return lengths, codes, described


def _tile_lengths(scan: np.ndarray) -> np.ndarray:
    """Measure the entropy-coded bytes between the restart markers."""
    after_ff = scan[1:][scan[:-1] == 0xFF]
    markers = np.flatnonzero(scan[:-1] == 0xFF)[(after_ff >= 0xD0) & (after_ff <= 0xD7)]
    return np.diff(np.concatenate([[-2], markers, [len(scan)]])) - 2


def _write_headers(headers: _Headers, described: list[bytes], interval: int, lengths: np.ndarray) -> bytes:
    def segment(marker: int, payload: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload

    components = list(headers.components)
    if len(components) == 1:
        grey = components[0]
        components = [_Component(i + 1, 1, 1, grey.quantisation) for i in range(3)]
    else:
        components = [_Component(i + 1, c.horizontal, c.vertical, c.quantisation) for i, c in enumerate(components)]
    used = sorted({c.quantisation for c in components})
    wide = any(headers.quantisation[number][0] >= 16 for number in used)  # 16-bit tables need SOF1
    frame = struct.pack(">BHHB", 8, headers.height, headers.width, 3)
    frame += b"".join(bytes([c.identifier, c.horizontal << 4 | c.vertical, c.quantisation]) for c in components)
    scan = bytes([3]) + b"".join(bytes([c.identifier, 0x00 if i == 0 else 0x11]) for i, c in enumerate(components))
    classes = (0x00, 0x10, 0x01, 0x11)
    listed = len(lengths) <= MAX_TILES and lengths.max() <= 0xFFFF  # otherwise a reader decodes the whole image
    tiles = segment(TILES_MARKER, TILES_NAME + lengths.astype(">u2").tobytes()) if listed else b""
    return b"".join(
        [
            b"\xff\xd8",
            _JFIF,
            tiles,
            *(segment(0xDB, headers.quantisation[number]) for number in used),
            segment(0xC1 if wide else 0xC0, frame),
            *(segment(0xC4, bytes([number]) + table) for number, table in zip(classes, described, strict=True)),
            segment(0xDD, struct.pack(">H", interval)),
            segment(0xDA, scan + b"\x00\x3f\x00"),
        ]
    )
