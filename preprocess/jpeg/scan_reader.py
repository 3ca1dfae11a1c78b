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
SYMBOL_SHIFT = 12  # of a token
# An entry of the lookup has its symbol in bits 0 to 7, then the bits of the code, the step (run + 1,
# of an end of block 65) and the bits of code and value together. It does not hold the value: then
# each code that fits is found at once, however long its value is.
_LENGTH_SHIFT = 8
_LENGTH_MASK = 31
_STEP_SHIFT = 13
_BITS_SHIFT = 20
_RARE = 127  # as a step: leads past a block's end, where `_further` finds the code
_LONG = _RARE << _STEP_SHIFT  # of a code that is longer than the lookup
_BAD = 1 | _RARE << _STEP_SHIFT  # a coefficient past the end of its block
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
    lookups: np.ndarray  # uint32 [rows, 2**LOOK]: entries by the next bits
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


@compiled(**INLINE)
def _entry(symbol: int, length: int, dc: bool) -> Any:
    """Make an entry; without a step and bits where no photograph has the symbol."""
    size = symbol if dc else symbol & 15
    if not _is_valid(symbol, size, dc):
        return np.int64(_BAD)
    step = np.int64(65) if symbol == 0 and not dc else (symbol >> 4) + 1
    return symbol | length << _LENGTH_SHIFT | step << _STEP_SHIFT | (length + size) << _BITS_SHIFT


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
        lookup = codes.lookups[row]
        lookup[:] = _LONG
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
                    first = code << (LOOK - length)
                    lookup[first : first + (1 << (LOOK - length))] = _entry(
                        symbol, length, codes.is_dc[row]
                    )
                code += 1
                number += 1
            code <<= 1


@compiled(**OPTIONS)
def _further(buffer: Any, entry: Any, dc: bool, longest: Any, symbols: Any) -> Any:
    """Find the entry of a code that is not in the lookup; _BAD where damaged."""
    if entry != _LONG:
        return np.int64(_BAD)
    length = np.int64(LOOK + 1)
    while length <= 16 and np.int64(buffer >> _U(64 - length)) > longest[length, 0]:
        length += 1
    if length > 16:
        return np.int64(_BAD)
    code = np.int64(buffer >> _U(64 - length))
    return _entry(np.int64(symbols[(code + longest[length, 1]) & 255]), length, dc)


@compiled(**INLINE)
def _value(buffer: Any, entry: Any, size: Any) -> Any:
    """Read the value behind a code (F.2.2.1), without a branch that would be mispredicted."""
    ahead = buffer << _U((entry >> _LENGTH_SHIFT) & _LENGTH_MASK)
    is_negative = ~(np.int64(ahead) >> 63)  # all ones or 0
    value = np.int64((ahead >> _U(1)) >> _U(63 - size))
    return value + (is_negative & (1 - (np.int64(1) << size)))


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
    """Decode an AC symbol with its value: (symbol, value), buffer, valid, k, past 63 at the end."""
    entry = np.int64(codes.lookups[row, buffer >> _PEEK])
    num_bits = _U(entry >> _BITS_SHIFT)
    k += (entry >> _STEP_SHIFT) & 127
    if k >= 63 and num_bits == 0:
        entry = _further(buffer, entry, False, codes.longest[row], codes.symbols[row])
        num_bits = _U(entry >> _BITS_SHIFT)
        k += ((entry >> _STEP_SHIFT) & 127) - _RARE
    found = (entry & _SYMBOL_BITS, _value(buffer, entry, entry & 15))
    return found, buffer << num_bits, valid - num_bits, k


@compiled(**INLINE)
def _say(said: Any, token: Any, count: Any, found: Any) -> Any:
    """Note a token and count its symbol; return the next token's number."""
    if said is not None:
        said.tokens[token] = (_EMPTY + found[1]) | found[0] << SYMBOL_SHIFT
        said.frequencies[count + _U(found[0])] += 1
        token += 1
    return token


@compiled(**INLINE)
def _place(coefs: Any, at: Any, k: Any, found: Any, quants: Any) -> None:
    coefs[at + PLACES[_U(k)]] = _F(found[1]) * quants[_U(k)]


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
                entry = _further(buffer, entry, True, codes.longest[row], codes.symbols[row])
                num_bits = _U(entry >> _BITS_SHIFT)
                if num_bits == 0:
                    return (buffer, valid, p), np.int64(-1)
            level = dc[component] + _value(buffer, entry, entry & 15)
            buffer <<= num_bits
            valid -= num_bits
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
                    found, buffer, valid, k = _next_ac(codes, row, buffer, valid, k)
                    token = _say(said, token, count, found)
                    if k >= 63:
                        break
                    _place(blocks.coefs, at, k, found, quants)
                is_second = False
                found, buffer, valid, k = _next_ac(codes, row, buffer, valid, k)
                token = _say(said, token, count, found)
                if k >= 63:
                    break
                _place(blocks.coefs, at, k, found, quants)
            if found[0] != 0:  # no end of block
                if k > 63:
                    return (buffer, valid, p), np.int64(-1)
                _place(blocks.coefs, at, k, found, quants)
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
