"""Read the scan of a baseline JPEG to its last bit: tokens, and coefficients ready for the inverse
DCT. Compiled, inside its bounds.

A token, uint32, is an AC coefficient: its value + 2048 in bits 0 to 11, size and run of zeros (the
symbol of ITU-T T.81, F.1.2.2) in bits 12 to 19. Bits above those are of no meaning.

Every index is bounded: a block takes at most 27 + 63 * 26 bits, less than SLACK bytes with what is
read ahead, and the position is checked before each block.
"""

from typing import Any, NamedTuple

import numpy as np

from preprocess.jpeg.intrinsics import load64
from shards.host.compiled import compiled
from shards.tiles.compile_options import INLINE, OPTIONS
from shards.tiles.header import LOOK
from shards.tiles.huffman import SLACK, unstuff_to_marker
from shards.tiles.transform import ZIGZAG
from shards.tiles.vectors import LANES

MAX_LEVEL = 1023  # of a DC coefficient of 8-bit samples, from -1024 on
_MAX_SIZE_DC = 11  # of a value of 8-bit baseline (F.1.2), in bits
_MAX_SIZE_AC = 10
_EMPTY = 2048  # a value of 0
_RARE = 127  # as a step: leads past a block's end, where `_further` finds the code
_BAD = 1 << 12 | _RARE << 20  # a coefficient past the end of its block
SYMBOL_SHIFT = 12  # of a token, and of an entry of the lookup
_STEP_SHIFT = 20  # of an entry: run + 1, of an end of block 65
_BITS_SHIFT = 27  # of an entry: bits of the code and its value
# Bit arithmetic is in uint64, which numba neither mixes with signed numbers nor wraps around.
_U = np.uint64
_F = np.float32
_PEEK = _U(64 - LOOK)
_FULL = _U(56)
_SYMBOL_BITS = 0xFF
# From a coefficient's number in a scan to its place in a block of a strip: u * LANES + v.
PLACES = ((ZIGZAG & 7) * LANES + (ZIGZAG >> 3)).astype(np.uint64)


class Codes(NamedTuple):
    """Huffman tables, each a row. `row_of` int64 [components, 2] tells those of DC and AC."""

    raw: np.ndarray  # uint8 [rows, 272]: 16 counts, then symbols, as in DHT
    is_dc: np.ndarray  # bool [rows]
    row_of: np.ndarray
    lookups: np.ndarray  # uint32 [rows, 2**LOOK]: by the next bits, a token with step and bits
    longest: np.ndarray  # int64 [rows, 17, 2]: the last code of a length, and from code to symbol
    symbols: np.ndarray  # uint8 [rows, 256]


class Tokens(NamedTuple):
    """What a scan says: per block its DC level int16 and number of tokens uint8; all tokens.

    frequencies int64 [4 * 257] counts symbols: of luma DC, luma AC, chroma DC, chroma AC.
    """

    levels: np.ndarray
    counts: np.ndarray
    tokens: np.ndarray
    frequencies: np.ndarray


class Blocks(NamedTuple):
    """Where the coefficients of an MCU's blocks go: float32, times what they were divided by.

    quants float32 [components, 64] in the order of the scan. int64 [blocks of an MCU]: `component`,
    `where` that of the first MCU starts in coefs, which has to be zero, and the step to the next.
    """

    coefs: np.ndarray
    quants: np.ndarray
    component: np.ndarray
    where: np.ndarray
    step: np.ndarray


@compiled(**OPTIONS)
def _enter(lookup: Any, code: int, length: int, symbol: int, dc: bool) -> None:
    """Fill the entries of a code, with each value that may follow if both fit into the lookup."""
    size = symbol if dc else symbol & 15
    spare = LOOK - length - size
    if spare < 0 or not _is_valid(symbol, size, dc):
        return
    step = np.int64(65) if symbol == 0 and not dc else (symbol >> 4) + 1
    first = code << (LOOK - length)
    for raw in range(1 << size):
        value = raw if raw >= (1 << size) >> 1 else raw - (1 << size) + 1
        entry = _EMPTY + value | symbol << SYMBOL_SHIFT | step << _STEP_SHIFT
        entry |= (length + size) << _BITS_SHIFT
        for i in range(first + (raw << spare), first + ((raw + 1) << spare)):
            lookup[i] = entry


@compiled(**INLINE)
def _is_valid(symbol: int, size: int, dc: bool) -> Any:
    if dc:
        return size <= _MAX_SIZE_DC
    return size <= _MAX_SIZE_AC and (size > 0 or symbol == 0 or symbol == 0xF0)


@compiled(**OPTIONS)
def read_codes(codes: Any, num_rows: int) -> None:
    """Read the tables in codes.raw[:num_rows], which have to be prefix codes."""
    for row in range(num_rows):
        raw = codes.raw[row]
        codes.lookups[row, :] = _RARE << _STEP_SHIFT
        code = np.int64(0)
        number = np.int64(0)
        for length in range(1, 17):
            count = np.int64(raw[length - 1])
            codes.longest[row, length, 0] = code + count - 1 if count > 0 else -1
            codes.longest[row, length, 1] = number - code
            for _ in range(count):
                symbol = np.int64(raw[16 + number])
                codes.symbols[row, number] = symbol
                if length <= LOOK:
                    _enter(codes.lookups[row], code, length, symbol, codes.is_dc[row])
                code += 1
                number += 1
            code <<= 1


@compiled(**OPTIONS)
def _further(buffer: Any, dc: bool, longest: Any, symbols: Any) -> Any:
    """Decode a symbol that is not in the lookup: entry, bits to consume; _BAD where damaged."""
    length = np.int64(1)
    while length <= 16 and np.int64(buffer >> _U(64 - length)) > longest[length, 0]:
        length += 1
    if length > 16:
        return np.int64(_BAD), np.int64(0)
    code = np.int64(buffer >> _U(64 - length))
    symbol = np.int64(symbols[(code + longest[length, 1]) & 255])
    size = symbol if dc else symbol & 15
    if not _is_valid(symbol, size, dc):
        return np.int64(_BAD), np.int64(0)
    value = np.int64((buffer << _U(length)) >> _U(1) >> _U(63 - size))
    half = (np.int64(1) << size) >> 1
    value += ((value - half) >> 63) & (1 - (np.int64(1) << size))  # no branch to be mispredicted
    step = np.int64(65) if symbol == 0 and not dc else (symbol >> 4) + 1
    return (_EMPTY + value) | symbol << SYMBOL_SHIFT | step << _STEP_SHIFT, length + size


@compiled(**INLINE)
def _refill(bits: Any, buffer: Any, valid: Any, p: Any) -> Any:
    """Top the buffer up to 56 bits or more: (buffer, how many of its bits count, position)."""
    return (
        buffer | (load64(bits, p) >> valid),
        valid | _FULL,
        p + ((_U(63) - valid) >> _U(3)),
    )


@compiled(**INLINE)
def _next_ac(codes: Any, row: Any, buffer: Any, valid: Any, k: Any) -> Any:
    """Decode an AC symbol with its value: entry, buffer, valid, k, which is past 63 at the end."""
    entry = np.int64(codes.lookups[row, buffer >> _PEEK])
    num_bits = _U(entry >> _BITS_SHIFT)
    k += (entry >> _STEP_SHIFT) & 127
    if k >= 63 and num_bits == 0:
        entry, more = _further(buffer, False, codes.longest[row], codes.symbols[row])
        num_bits = _U(more)
        k += ((entry >> _STEP_SHIFT) & 127) - _RARE
    return entry, buffer << num_bits, valid - num_bits, k


@compiled(**INLINE)
def _say(said: Any, token: Any, count: Any, entry: Any) -> Any:
    """Note a token and count its symbol; return the next token's number."""
    if said is not None:
        said.tokens[token] = entry
        said.frequencies[count + _U((entry >> SYMBOL_SHIFT) & _SYMBOL_BITS)] += 1
        token += 1
    return token


@compiled(**INLINE)
def _place(coefs: Any, at: Any, k: Any, entry: Any, quants: Any) -> None:
    coefs[at + PLACES[_U(k)]] = _F((entry & 4095) - _EMPTY) * quants[_U(k)]


@compiled(**OPTIONS)
def read_mcus(
    bits: Any, end: Any, state: Any, first_mcu: int, stop: int, codes: Any, dc: Any, blocks: Any,
    said: Any, token: int, block: int,
) -> Any:  # fmt: skip
    """Read MCUs [first_mcu, stop) of a row, from bits up to `end`: (state, next token).

    The token is -1 where they are damaged.

    A state is (buffer, how many of its bits count, position in `bits`). dc int64 [components]
    holds the last DC levels. `said` are Tokens, filled from `token` and `block` on, or None.
    """
    buffer, valid, p = state
    per_mcu = len(blocks.component)
    for mcu in range(first_mcu, stop):
        for i in range(per_mcu):
            if p > end + _U(7):
                return (buffer, valid, p), np.int64(-1)
            component = blocks.component[i]
            quants = blocks.quants[component]
            at = _U(blocks.where[i] + mcu * blocks.step[i])
            row = codes.row_of[component, 0]
            buffer, valid, p = _refill(bits, buffer, valid, p)
            entry = np.int64(codes.lookups[row, buffer >> _PEEK])
            num_bits = _U(entry >> _BITS_SHIFT)
            if num_bits == 0:
                entry, more = _further(buffer, True, codes.longest[row], codes.symbols[row])
                num_bits = _U(more)
                if num_bits == 0:
                    return (buffer, valid, p), np.int64(-1)
            buffer <<= num_bits
            valid -= num_bits
            level = dc[component] + (entry & 4095) - _EMPTY
            if level < -1 - MAX_LEVEL or level > MAX_LEVEL:
                return (buffer, valid, p), np.int64(-1)
            dc[component] = level
            blocks.coefs[at] = _F(level) * quants[0]
            row = codes.row_of[component, 1]
            count = _U(257 if component == 0 else 3 * 257)
            first = token
            k = np.int64(0)
            is_second = True  # of two symbols after a refill: the DC code was the first
            while True:
                if not is_second:
                    buffer, valid, p = _refill(bits, buffer, valid, p)
                    entry, buffer, valid, k = _next_ac(codes, row, buffer, valid, k)
                    token = _say(said, token, count, entry)
                    if k >= 63:
                        break
                    _place(blocks.coefs, at, k, entry, quants)
                is_second = False
                entry, buffer, valid, k = _next_ac(codes, row, buffer, valid, k)
                token = _say(said, token, count, entry)
                if k >= 63:
                    break
                _place(blocks.coefs, at, k, entry, quants)
            if (entry >> SYMBOL_SHIFT) & _SYMBOL_BITS != 0:  # no end of block
                if k > 63:
                    return (buffer, valid, p), np.int64(-1)
                _place(blocks.coefs, at, k, entry, quants)
            if said is not None:
                said.levels[block] = level
                said.counts[block] = token - first
                block += 1
    return (buffer, valid, p), token


@compiled(**INLINE)
def is_used_up(state: Any, end: Any) -> Any:
    """Tell whether all bytes before `end` were needed, and no more."""
    bits_left = np.int64(_U(8) * end + state[1] - _U(8) * state[2])
    return bits_left >= 0 and bits_left < 8


@compiled(**OPTIONS)
def unstuff_scan(data: Any, at: int, bits: Any, ends: Any) -> bool:
    """Copy a scan that starts at data[at] without its markers and stuffed zeros to bits.

    ends uint64 [restart segments + 1] becomes where the copies start, then the end; `bits` has
    SLACK bytes more. False where the markers are others than RST in their order, then EOI.
    """
    to = np.int64(0)
    ends[0] = 0
    last = len(ends) - 2
    for number in range(last + 1):
        at, to = unstuff_to_marker(data, at, len(data), bits, to)
        if at + 2 > len(data):
            return False
        if data[at + 1] != (0xD9 if number == last else 0xD0 + number % 8):
            return False
        ends[number + 1] = to
        at += 2
    bits[to : to + SLACK] = 0
    return True
