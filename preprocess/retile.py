"""Give a JPEG tiles without a second generation: the same coefficients behind other Huffman codes."""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from preprocess.bits import decoding_table
from preprocess.entropy import (
    count_symbols,
    limited_bits,
    optimal_lengths,
    read_coefficients,
    write_tiles,
)
from preprocess.grid import Grid
from preprocess.progressive import Scan, read_scans
from shards.format import MAX_TILES, TILES_MARKER, TILES_NAME

_BASELINE = (0xC0, 0xC1)  # SOF0, SOF1: sequential Huffman
_PROGRESSIVE = 0xC2
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the first marker that is not RST
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
    """What the segments up to and with the latest SOS say."""

    width: int = 0
    height: int = 0
    components: list[_Component] = field(default_factory=list)
    quantisation: dict[int, bytes] = field(default_factory=dict)  # table -> precision/id byte and its values
    dc: dict[int, np.ndarray] = field(default_factory=dict)
    ac: dict[int, np.ndarray] = field(default_factory=dict)
    interval: int = 0
    progressive: bool = False
    transformed: bool = True  # False: stored as RGB
    scan: int = 0  # where the entropy-coded bytes start


def retile(data: bytes, interval_of: Callable[[int, int], int], keep_grey: bool = False) -> bytes | None:
    """Rewrite a JPEG as baseline with restart markers, optimised codes and no metadata; None where not possible.

    `interval_of(MCUs of a row, rows)` chooses the restart interval. The coefficients stay the same, so every decoder
    gives the same pixels. A grey image gets two empty chroma planes, unless `keep_grey`: an RGB one of equal pixels.
    Arithmetic, 12-bit and CMYK files are not rewritten, nor damaged ones or progressive ones that lack scans.
    """
    headers = _Headers()
    try:
        read = _read(headers, data)
    except (IndexError, struct.error, ValueError):
        return None
    if read is None:
        return None
    levels, counts, tokens = read
    grey = len(headers.components) == 1 and not keep_grey
    blocks, mcus_per_row, num_mcus = _layout(headers)
    interval = interval_of(mcus_per_row, num_mcus // mcus_per_row)
    lengths, codes, described = _codes(count_symbols(levels, counts, tokens, blocks, interval, grey))
    out = np.empty(8 * (len(tokens) + 2 * len(levels)) + 64, np.uint8)
    size = write_tiles(levels, counts, tokens, blocks, interval, grey, codes, lengths, out)
    start = _write_headers(headers, described, interval, _tile_lengths(out[:size]), grey)
    return start + out[:size].tobytes() + b"\xff\xd9"


def _read(headers: _Headers, data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Read DC levels, token counts and tokens as `read_coefficients` has them; None where the scans are damaged."""
    segments = _segments(data)
    payload = _read_segments(headers, data, segments)
    if any(c.quantisation not in headers.quantisation for c in headers.components):
        raise ValueError("no DQT")
    if not headers.transformed and len(headers.components) != 1:
        raise ValueError("stored as RGB")  # without Adobe's segment decoders would take it for YCbCr
    blocks, _, num_mcus = _layout(headers)
    if headers.progressive or payload[0] < len(headers.components):
        grid = Grid(headers.width, headers.height, [(c.horizontal, c.vertical) for c in headers.components])
        return read_scans(grid, _scans(headers, data, segments, payload), headers.progressive)
    members = _read_scan(headers, payload)
    dc, ac = _tables(headers, "dc", members), _tables(headers, "ac", members)
    scan = np.frombuffer(data, np.uint8)[headers.scan :]
    levels, counts, tokens, end = read_coefficients(scan, num_mcus, headers.interval, blocks, dc, ac)
    whole = end >= 0 and bytes(scan[end : end + 2]) == b"\xff\xd9" and payload[-3:] == b"\x00\x3f\x00"
    return (levels, counts, tokens) if whole else None


def _scans(headers: _Headers, data: bytes, segments: Iterator[tuple[int, int, int]], payload: bytes) -> Iterator[Scan]:
    """Yield the scan whose SOS has this payload and all after it."""
    while payload:
        members = _read_scan(headers, payload)
        first, last, bits = payload[-3:]
        dc = _tables(headers, "dc", members if first == 0 and bits < 16 else [])
        ac = _tables(headers, "ac", members if last else [])
        _, start, end = next(segments)
        coded = np.frombuffer(data, np.uint8)[start:end]
        yield Scan(members, (first, last, bits >> 4, bits & 15), headers.interval, dc, ac, coded)
        payload = _read_segments(headers, data, segments)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the payload of each segment; after an SOS (0, start, end) of what is coded."""
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
        if marker == 0xD9:
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2 or at + 2 + length > len(data) or marker < 0xC0 or 0xD0 <= marker <= 0xD8:
            raise ValueError("segment")
        yield marker, at + 4, at + 2 + length
        at += 2 + length
        if marker == 0xDA:
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                raise ValueError("no EOI")
            yield 0, at, found.start()
            at = found.start()


def _read_segments(headers: _Headers, data: bytes, segments: Iterator[tuple[int, int, int]]) -> bytes:
    """Read the segments up to and with the next SOS; return its payload, nothing where the image ends before."""
    for marker, start, end in segments:
        payload = data[start:end]
        if marker in (*_BASELINE, _PROGRESSIVE):
            _read_frame(headers, payload)
            headers.progressive = marker == _PROGRESSIVE
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            raise ValueError("lossless, hierarchical or arithmetic")
        elif marker == 0xDB:
            _read_quantisation(headers, payload)
        elif marker == 0xC4:
            _read_codes(headers, payload)
        elif marker == 0xDD:
            (headers.interval,) = struct.unpack(">H", payload)
        elif marker == 0xEE and payload[:5] == b"Adobe":
            headers.transformed = payload[11] == 1
        elif marker == 0xDA:
            headers.scan = end
            return payload
    return b""


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
    if headers.scan:
        raise ValueError("DQT between scans")
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


def _read_scan(headers: _Headers, payload: bytes) -> list[int]:
    """Take the table numbers of a scan; return which components of the frame it has, in the frame's order."""
    if not payload[0] or len(payload) != 4 + 2 * payload[0]:
        raise ValueError("SOS")
    identifiers = [component.identifier for component in headers.components]
    members: list[int] = []
    for identifier, tables in zip(payload[1:-3:2], payload[2:-3:2], strict=True):
        members.append(identifiers.index(identifier, members[-1] + 1 if members else 0))
        headers.components[members[-1]].dc, headers.components[members[-1]].ac = tables >> 4, tables & 15
    return members


def _layout(headers: _Headers) -> tuple[np.ndarray, int, int]:
    """Tell the component of each block of an MCU, the MCUs of a row and of the image."""
    if len(headers.components) == 1:  # not interleaved: one block, whatever the factors say
        headers.components[0].horizontal = headers.components[0].vertical = 1
    widest = max(c.horizontal for c in headers.components)
    tallest = max(c.vertical for c in headers.components)
    blocks = [i for i, c in enumerate(headers.components) for _ in range(c.horizontal * c.vertical)]
    per_row = -(-headers.width // (8 * widest))
    return np.array(blocks, np.int64), per_row, per_row * -(-headers.height // (8 * tallest))


def _tables(headers: _Headers, kind: str, members: list[int]) -> np.ndarray:
    """Return the decoding tables of a scan's components: uint16 [members, 65536]."""
    tables: dict[int, np.ndarray] = getattr(headers, kind)
    numbers = [getattr(headers.components[member], kind) for member in members]
    if any(number not in tables for number in numbers):
        raise ValueError("no DHT")
    return np.array([tables[number] for number in numbers], np.uint16).reshape(len(members), 65536)


def _codes(frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Make optimal codes: lengths and codes int64 [4, 256], and each table's DHT payload without its class byte.

    Tables of chroma that is not there are left out of the payloads.
    """
    lengths, codes = np.zeros((2, 4, 256), np.int64)
    described = []
    for table in range(4 if frequencies[2].any() else 2):
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


def _write_headers(
    headers: _Headers, described: list[bytes], interval: int, lengths: np.ndarray, add_chroma: bool
) -> bytes:
    def segment(marker: int, payload: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload

    components = headers.components * 3 if add_chroma else headers.components
    components = [_Component(i + 1, c.horizontal, c.vertical, c.quantisation) for i, c in enumerate(components)]
    used = sorted({c.quantisation for c in components})
    wide = any(headers.quantisation[number][0] >= 16 for number in used)  # 16-bit tables need SOF1
    frame = struct.pack(">BHHB", 8, headers.height, headers.width, len(components))
    frame += b"".join(bytes([c.identifier, c.horizontal << 4 | c.vertical, c.quantisation]) for c in components)
    scan = b"".join(bytes([c.identifier, 0x00 if i == 0 else 0x11]) for i, c in enumerate(components))
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
            *(segment(0xC4, bytes([number]) + table) for number, table in zip(classes, described, strict=False)),
            segment(0xDD, struct.pack(">H", interval)),
            segment(0xDA, bytes([len(components)]) + scan + b"\x00\x3f\x00"),
        ]
    )
