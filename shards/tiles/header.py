"""Read the headers of a baseline JPEG, with Huffman tables that yield a run and a value in one
lookup.

Sections named are those of ITU-T T.81: B.2 (markers), C.2 (codes), F.2.2 (decoding).
"""

from typing import Any

import numpy as np

from shards.disk.format import TILES_MARKER, TILES_NAME
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS

LOOK = 11  # bits looked up at once: 10 and 12 are slower
MAX_BLOCKS = 10  # of one MCU (B.2.3)

# A lookup entry: bits to consume, or RARE; zeros to skip; the value. An entry is RARE if its value
# (the number of whose bits is in its place) or even its code (no bits to consume then) is longer
# than the lookup.
RARE = 32
RUN_SHIFT = 8
VALUE_SHIFT = 16
END_OF_BLOCK = 128  # as a run: leads to k > 128, which tells it from a block that is too long
BAD = 64  # as a run: leads to 64 < k <= 128

# Fields of `frame`
# LIST: offset of the lengths of the LISTED tiles
SCAN, LUMA_H, LUMA_V, INTERVAL, LIST, LISTED = range(6)

_SOF0 = 0xC0
_SOF1 = 0xC1
_DHT = 0xC4
_SOI = 0xD8
_SOS = 0xDA
_DQT = 0xDB
_DRI = 0xDD
_APP0 = 0xE0
_APP14 = 0xEE
_APP15 = 0xEF
_COM = 0xFE
_TILES_NAME = tuple(TILES_NAME)
# Of a value of 8-bit baseline (F.1.2).
_MAX_BITS_DC = 11
_MAX_BITS_AC = 10


@compiled(**OPTIONS)
def u16(data: Any, at: int) -> Any:
    """Read a big-endian number of 16 bits."""
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@compiled(**OPTIONS)
def _read_codes(data: Any, at: int, dc: bool, lookup: Any, longest: Any, symbols: Any) -> int:
    """Read a Huffman table that starts at `at` with its 16 counts: the position after it, or -1 if
    it is not valid.

    lookup int32 [2**LOOK]. For codes beyond it: longest int64 [17, 2], the last code of each length
    (or -1) and the difference from code to position in symbols uint8 [256].
    """
    lookup[:] = RARE | BAD << RUN_SHIFT
    code = 0
    number = 0
    start = at + 16
    for length in range(1, 17):
        count = np.int64(data[at + length - 1])
        if number + count > 256 or start + number + count > len(data) or code + count > 1 << length:
            return -1
        longest[length, 0] = code + count - 1 if count > 0 else -1
        longest[length, 1] = number - code
        for _ in range(count):
            symbol = np.int64(data[start + number])
            symbols[number] = data[start + number]
            run, bits = (0, symbol) if dc else (symbol >> 4, symbol & 15)
            if bits > (_MAX_BITS_DC if dc else _MAX_BITS_AC):
                return -1
            if not dc and bits == 0 and run != 15:
                run = END_OF_BLOCK
            if length <= LOOK:
                first = code << (LOOK - length)
                spare = LOOK - length - bits
                if spare < 0:
                    lookup[first : first + (1 << (LOOK - length))] = (
                        length | RARE | run << RUN_SHIFT | bits << VALUE_SHIFT
                    )
                else:
                    for raw in range(1 << bits):
                        value = raw if raw >= (1 << bits) >> 1 else raw - (1 << bits) + 1
                        entry = (length + bits) | run << RUN_SHIFT | value << VALUE_SHIFT
                        for i in range(first + (raw << spare), first + ((raw + 1) << spare)):
                            lookup[i] = entry
            code += 1
            number += 1
        code <<= 1
    return start + number


@compiled(**OPTIONS)
def _read_frame(
    data: Any, at: int, width: int, height: int, num: int, frame: Any, components: Any
) -> bool:
    """Read the frame header at `at`: `num` components of 8 bits, chroma 1x1. components int64 [3,
    2]: id, quantiser.
    """
    if (
        data[at] != 8
        or data[at + 5] != num
        or u16(data, at + 1) != height
        or u16(data, at + 3) != width
    ):
        return False
    for i in range(num):
        components[i, 0] = data[at + 6 + 3 * i]
        components[i, 1] = data[at + 8 + 3 * i]
        if components[i, 1] > 3:
            return False
    luma = np.int64(data[at + 7])
    frame[LUMA_H] = luma >> 4
    frame[LUMA_V] = luma & 15
    if num == 1:  # an MCU is one block whatever the factors say, but libjpeg refuses odd ones
        return bool(luma == 0x11)
    return (
        1 <= frame[LUMA_H] <= 2 and 1 <= frame[LUMA_V] <= 2 and data[at + 10] == 0x11 and data[at + 13] == 0x11
    )  # fmt: skip


@compiled(**OPTIONS)
def _read_quants(data: Any, at: int, end: int, raw: Any) -> Any:
    """Read the quantisers from `at` to `end` into raw [4, 64]: a bit for each table that is there,
    or -1.
    """
    found = np.int64(0)
    while at < end:
        table = np.int64(data[at])
        if table > 3 or at + 65 > end:  # above 3: also 16-bit quantisers
            return np.int64(-1)
        for k in range(64):
            raw[table, k] = data[at + 1 + k]
        found |= np.int64(1) << table
        at += 65
    return found


@compiled(**OPTIONS)
def _read_tables(data: Any, at: int, end: int, lookups: Any, longest: Any, symbols: Any) -> Any:
    """Read the Huffman tables from `at` to `end`: a bit for each that is there, or -1."""
    found = np.int64(0)
    while at < end:
        kind = np.int64(data[at])
        if at + 17 > end or kind & 0xEE != 0:
            return np.int64(-1)
        table = 2 * (kind >> 4) + (kind & 1)
        at = _read_codes(data, at + 1, kind < 16, lookups[table], longest[table], symbols[table])
        if at < 0 or at > end:
            return np.int64(-1)
        found |= np.int64(1) << table
    return found


@compiled(**OPTIONS)
def _is_jfif(data: Any, at: int, length: int) -> bool:
    return bool(
        length >= 16
        and u16(data, at) == 0x4A46
        and u16(data, at + 2) == 0x4946
        and data[at + 4] == 0
    )


@compiled(**OPTIONS)
def _note_tiles(data: Any, at: int, end: int, frame: Any) -> None:
    """Note where the lengths of the tiles are, if this segment, with its name first, has them."""
    start = at + len(_TILES_NAME)
    if end < start:
        return
    for i in range(len(_TILES_NAME)):
        if data[at + i] != _TILES_NAME[i]:
            return
    frame[LIST] = start
    frame[LISTED] = (end - start) // 2


@compiled(**OPTIONS)
def _is_whole_scan(data: Any, at: int, end: int, num: int, components: Any) -> bool:
    """Tell whether the scan header at `at` is of all components, with their own Huffman tables, and
    of all coefficients.
    """
    if end != at + 4 + 2 * num or data[at] != num:
        return False
    if data[end - 3] != 0 or data[end - 2] != 63 or data[end - 1] != 0:
        return False
    for i in range(num):
        tables = 0x11 if i > 0 else 0
        if data[at + 1 + 2 * i] != components[i, 0] or data[at + 2 + 2 * i] != tables:
            return False
    return True


@compiled(**OPTIONS)
def _may_be_rgb(components: Any, num: int, jfif: bool, adobe: bool) -> bool:
    by_number = components[0, 0] == 1 and components[1, 0] == 2 and components[2, 0] == 3
    return bool(num == 3 and not jfif and (adobe or not by_number))


@compiled(**OPTIONS)
def _scale_quants(
    num: int, components: Any, found: Any, raw: Any, scales: Any, quants: Any
) -> bool:
    """Take each component's quantisers, times `scales`; False where a table is not there."""
    for i in range(num):
        table = components[i, 1]
        if found >> table & 1 == 0:
            return False
        for k in range(64):
            quants[i, k] = raw[table, k] * scales[k]
    return True


@compiled(**OPTIONS)
def read_header(
    data: Any, width: int, height: int, num: int, frame: Any, components: Any, raw: Any, scales: Any, quants: Any,
    lookups: Any, longest: Any, symbols: Any,
) -> bool:  # fmt: skip
    """Read everything before the scan; False for a file of another kind, which is left to the
    ordinary decoder.

    Accepted: 8-bit Huffman-coded sequential, one scan of YCbCr (`num` is 3), chroma 1x1 and luma
    1x1, 2x1, 1x2 or 2x2, or of grey (1), Huffman tables 0 for luma and 1 for chroma, `width` x
    `height`. Fills frame int64 [6]; quants float32 [3, 64], a component's quantisers in zigzag
    order times `scales` [64]; and of the tables DC 0, DC 1, AC 0,
    AC 1: lookups int32 [4, 2**LOOK], longest int64 [4, 17, 2], symbols uint8 [4, 256]. raw,
    components: scratch.
    """
    if len(data) < 4 or data[0] != 0xFF or data[1] != _SOI:
        return False
    frame[:] = 0
    found_codes = np.int64(0)
    found_quants = np.int64(0)
    framed = False
    jfif = False
    adobe = False
    at = 2
    while at + 4 <= len(data):
        marker = np.int64(data[at + 1])
        length = u16(data, at + 2)
        end = at + 2 + length
        if data[at] != 0xFF or length < 2 or end > len(data):
            return False
        at += 4
        if marker == _DQT:
            found_quants |= _read_quants(data, at, end, raw)
            if found_quants < 0:
                return False
        elif marker == _DHT:
            found_codes |= _read_tables(data, at, end, lookups, longest, symbols)
            if found_codes < 0:
                return False
        elif marker in (_SOF0, _SOF1):
            if framed or length != 8 + 3 * num:
                return False
            framed = _read_frame(data, at, width, height, num, frame, components)
            if not framed:
                return False
        elif marker == _DRI:
            if length != 4:
                return False
            frame[INTERVAL] = u16(data, at)
        elif marker == _APP0:
            if _is_jfif(data, at, length):
                jfif = True
                if data[at + 5] != 1:
                    return False
        elif marker == _APP14:
            adobe = True
        elif marker == TILES_MARKER:
            _note_tiles(data, at, end, frame)
        elif marker == _SOS:
            needed = 5 if num == 1 else 15  # DC 0 and AC 0, or all
            if (
                not framed
                or found_codes & needed != needed
                or not _is_whole_scan(data, at, end, num, components)
                or _may_be_rgb(components, num, jfif, adobe)
            ):
                return False
            frame[SCAN] = end
            return _scale_quants(num, components, found_quants, raw, scales, quants)
        elif marker != _COM and not _APP0 < marker <= _APP15:
            return False
        at = end
    return False
