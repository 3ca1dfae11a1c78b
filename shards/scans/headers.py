"""The segments of a JPEG up to each scan: sizes, tables, where the coded bytes are (ITU-T T.81, B)."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from shards.scans.bits import fill_decoding_table
from shards.scans.progressive import Scan

_KEPT = 64  # tables: those of the standard are in most photographs
_BASELINE = (0xC0, 0xC1)  # SOF0, SOF1: sequential Huffman
_PROGRESSIVE = 0xC2
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the first marker that is not RST


@dataclass
class Component:
    identifier: int
    horizontal: int
    vertical: int
    quantisation: int
    dc: int = 0
    ac: int = 0


@dataclass
class Headers:
    """What the segments up to and with the latest SOS say."""

    width: int = 0
    height: int = 0
    components: list[Component] = field(default_factory=list)
    # table -> precision/id byte and its values
    quantisation: dict[int, bytes] = field(default_factory=dict)
    dc: dict[int, bytes] = field(default_factory=dict)  # table -> 16 counts, then symbols
    ac: dict[int, bytes] = field(default_factory=dict)
    interval: int = 0
    progressive: bool = False
    transformed: bool = True  # False: stored as RGB
    has_metadata: bool = False  # EXIF or XMP, which may say that the image is turned
    quantised: bool = True  # False: quantisation is not of interest
    scan: int = 0  # where the entropy-coded bytes start

    @property
    def named(self) -> list[int]:
        """List the identifiers of the components."""
        return [component.identifier for component in self.components]


def scans_of(
    headers: Headers, data: bytes, segments: Iterator[tuple[int, int, int]], payload: bytes
) -> Iterator[Scan]:
    """Yield the scan whose SOS has this payload and all after it."""
    while payload:
        members = read_scan(headers, payload)
        first, last, bits = payload[-3:]
        dc = tables_of(headers, "dc", members if first == 0 and bits < 16 else [])
        ac = tables_of(headers, "ac", members if last else [])
        _, start, end = next(segments)
        coded = np.frombuffer(data, np.uint8)[start:end]
        yield Scan(members, (first, last, bits >> 4, bits & 15), headers.interval, dc, ac, coded)
        payload = read_segments(headers, data, segments)


def segments_of(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the payload of each segment; after an SOS (0, start, end) of
    what is coded.
    """
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
            found = AFTER_SCAN.search(data, at)
            if found is None:
                raise ValueError("no EOI")
            yield 0, at, found.start()
            at = found.start()


def read_segments(headers: Headers, data: bytes, segments: Iterator[tuple[int, int, int]]) -> bytes:
    """Read the segments up to and with the next SOS; return its payload, nothing where the image
    ends before.
    """
    for marker, start, end in segments:
        payload = data[start:end]
        if marker in (*_BASELINE, _PROGRESSIVE):
            _read_frame(headers, payload)
            headers.progressive = marker == _PROGRESSIVE
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            raise ValueError("lossless, hierarchical or arithmetic")
        elif marker == 0xDB and headers.quantised:
            _read_quantisation(headers, payload)
        elif marker == 0xC4:
            _read_codes(headers, payload)
        elif marker == 0xDD:
            (headers.interval,) = struct.unpack(">H", payload)
        elif marker == 0xEE and payload[:5] == b"Adobe":
            headers.transformed = payload[11] == 1
        elif marker == 0xE1:
            headers.has_metadata = True
        elif marker == 0xDA:
            headers.scan = end
            return payload
    return b""


def _read_frame(headers: Headers, payload: bytes) -> None:
    precision, headers.height, headers.width, count = struct.unpack_from(">BHHB", payload)
    if (
        precision != 8
        or not 1 <= count <= 4
        or not headers.height
        or not headers.width
        or headers.components
    ):
        raise ValueError("frame")
    for i in range(count):
        identifier, sampling, table = payload[6 + 3 * i : 9 + 3 * i]
        component = Component(identifier, sampling >> 4, sampling & 15, table)
        if not (1 <= component.horizontal <= 4 and 1 <= component.vertical <= 4):
            raise ValueError("sampling")
        headers.components.append(component)


def _read_quantisation(headers: Headers, payload: bytes) -> None:
    if headers.scan:
        raise ValueError("DQT between scans")
    while payload:
        size = 65 if payload[0] < 16 else 129
        if len(payload) < size:
            raise ValueError("DQT")
        headers.quantisation[payload[0] & 15] = payload[:size]
        payload = payload[size:]


def _read_codes(headers: Headers, payload: bytes) -> None:
    for kind, described in _codes_of(payload):
        (headers.ac if kind >> 4 else headers.dc)[kind & 15] = described


@lru_cache(_KEPT)
def _codes_of(payload: bytes) -> list[tuple[int, bytes]]:
    """Divide a DHT into its tables: class and number, then 16 counts and symbols."""
    tables = []
    while payload:
        kind = payload[0]
        end = 17 + sum(payload[1:17])
        room = sum(count << (16 - length) for length, count in enumerate(payload[1:17], 1))
        if len(payload) < max(17, end) or end > 17 + 256 or room > 1 << 16:  # or no prefix code
            raise ValueError("DHT")
        tables.append((kind, payload[1:end]))
        payload = payload[end:]
    return tables


def read_scan(headers: Headers, payload: bytes) -> list[int]:
    """Take the table numbers of a scan; return which components of the frame it has, in the frame's
    order.
    """
    if not payload[0] or len(payload) != 4 + 2 * payload[0]:
        raise ValueError("SOS")
    identifiers = headers.named
    members: list[int] = []
    for identifier, tables in zip(payload[1:-3:2], payload[2:-3:2], strict=True):
        members.append(identifiers.index(identifier, members[-1] + 1 if members else 0))
        headers.components[members[-1]].dc = tables >> 4
        headers.components[members[-1]].ac = tables & 15
    return members


def layout(headers: Headers) -> tuple[np.ndarray, int, int]:
    """Tell the component of each block of an MCU, the MCUs of a row and of the image."""
    if len(headers.components) == 1:  # not interleaved: one block, whatever the factors say
        headers.components[0].horizontal = headers.components[0].vertical = 1
    widest = max(c.horizontal for c in headers.components)
    tallest = max(c.vertical for c in headers.components)
    blocks = _blocks_of_mcu(tuple(c.horizontal * c.vertical for c in headers.components))
    per_row = -(-headers.width // (8 * widest))
    return blocks, per_row, per_row * -(-headers.height // (8 * tallest))


@lru_cache(_KEPT)
def _blocks_of_mcu(counts: tuple[int, ...]) -> np.ndarray:
    """Tell the component of each block of an MCU, where each has so many."""
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def tables_of(headers: Headers, kind: str, members: list[int]) -> np.ndarray:
    """Return the decoding tables of a scan's components: uint16 [members, 65536]."""
    tables = np.zeros((len(members), 1 << 16), np.uint16)
    for table, described in zip(tables, described_codes(headers, kind, members), strict=True):
        values = np.frombuffer(described, np.uint8)
        fill_decoding_table(values[:16], values[16:], table)
    return tables


def described_codes(headers: Headers, kind: str, members: list[int]) -> list[bytes]:
    """Return the tables of a scan's components, of `kind` dc or ac: 16 counts, then symbols."""
    tables: dict[int, bytes] = getattr(headers, kind)
    numbers = [getattr(headers.components[member], kind) for member in members]
    if any(number not in tables for number in numbers):
        raise ValueError("no DHT")
    return [tables[number] for number in numbers]
