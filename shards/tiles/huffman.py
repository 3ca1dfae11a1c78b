"""Decode the Huffman-coded coefficients of tiles, two tiles at a time: their chains of dependent
steps overlap.

Every index is bounded: a block consumes at most 27 + 63 * 26 bits, less than SLACK bytes with what
is read ahead, and the position is checked before each block; indices into tables are masked, or
have as many bits as the table.
"""

from typing import Any

import numba
import numpy as np

from shards.host.compiled import compiled
from shards.tiles.compile_options import INLINE, OPTIONS
from shards.tiles.header import BAD, END_OF_BLOCK, LOOK, RARE, RUN_SHIFT, VALUE_SHIFT
from shards.tiles.vectors import LANES, copy_run, trailing_zeros

SLACK = 256
# Bit arithmetic is in uint64, which numba neither mixes with signed numbers nor wraps around as an
# index.
_U = np.uint64
_BYTE = (_U(0), _U(1), _U(2), _U(3), _U(4), _U(5), _U(6), _U(7))
_PEEK = _U(64 - LOOK)
_FULL = _U(56)
_BLOCK = _U(64)
_END = _U(END_OF_BLOCK)
_LENGTH_MASK = 31
_RUN_MASK = 255


@compiled(**OPTIONS)
def unstuff(data: Any, at: int, end: int, out: Any, to: int) -> int:
    """Copy data[at:end] to out[to:] without the zeros stuffed after FF: the end of the copy, or -1
    at a marker.
    """
    at, to = unstuff_to_marker(data, at, end, out, to)
    return to if at == end else -1


@compiled(**OPTIONS)
def unstuff_to_marker(data: Any, at: int, end: int, out: Any, to: int) -> Any:
    """Copy data[at:end] as `unstuff` does, up to the first marker: where it is, the copy's end.

    What follows the copy in `out` is changed, to `end - at` bytes in all at most.
    """
    while at + LANES < end:
        marked = copy_run(data, at, out, to)
        if marked == _U(0):
            at += LANES
            to += LANES
            continue
        before = trailing_zeros(marked)
        if data[at + before + 1] != 0:
            return at + before, to + before
        at += before + 2
        to += before + 1
    while at < end:
        byte = data[at]
        if byte == 0xFF and (at + 1 >= end or data[at + 1] != 0):
            return at, to
        out[to] = byte
        at += 2 if byte == 0xFF else 1
        to += 1
    return at, to


@compiled(**INLINE)
def _refill(bits: Any, state: Any) -> Any:
    """Top the buffer up to 56 bits or more. A state is (buffer, how many of its bits count,
    position in `bits`).
    """
    buffer, valid, p = state
    word = _U(0)
    for i in numba.literal_unroll(_BYTE):
        word = (word << _U(8)) | _U(bits[p + i])
    return buffer | (word >> valid), valid | _FULL, p + ((_U(63) - valid) >> _U(3))


@compiled(**OPTIONS)
def _look_further(buffer: Any, entry: Any, dc: bool, longest: Any, symbols: Any) -> Any:
    """Complete an entry that is RARE."""
    length = entry & _LENGTH_MASK
    run = (entry >> RUN_SHIFT) & _RUN_MASK
    size = (entry >> VALUE_SHIFT) & 15
    if length == 0:
        length = LOOK + 1
        while length <= 16 and np.int64(buffer >> _U(64 - length)) > longest[length, 0]:
            length += 1
        if length > 16:
            return np.int64(BAD << RUN_SHIFT)
        symbol = np.int64(symbols[(np.int64(buffer >> _U(64 - length)) + longest[length, 1]) & 255])
        run, size = (np.int64(0), symbol & 15) if dc else (symbol >> 4, symbol & 15)
        if not dc and size == 0 and run != 15:
            run = np.int64(END_OF_BLOCK)
    value = np.int64((buffer << _U(length)) >> _U(1) >> _U(63 - size))
    half = (np.int64(1) << size) >> 1
    # no branch: half of its predictions would be wrong
    value += ((value - half) >> 63) & (1 - (np.int64(1) << size))
    return (length + size) | run << RUN_SHIFT | value << VALUE_SHIFT


@compiled(**INLINE)
def _decode(state: Any, dc: bool, codes: Any) -> Any:
    """Decode one symbol with its value: state, run, value. `codes` is one table's (lookup, longest,
    symbols).
    """
    buffer, valid, p = state
    entry = np.int64(codes[0][buffer >> _PEEK])
    if entry & RARE:
        entry = _look_further(buffer, entry, dc, codes[1], codes[2])
    length = _U(entry & _LENGTH_MASK)
    return (
        (buffer << length, valid - length, p),
        _U((entry >> RUN_SHIFT) & _RUN_MASK),
        entry >> VALUE_SHIFT,
    )


@compiled(**INLINE)
def _ac(state: Any, k: Any, codes: Any, coefs: Any, at: Any, places: Any, quants: Any) -> Any:
    """Decode one AC coefficient and store it dequantised: state, next k. An end of block stores a
    zero over a zero.
    """
    state, run, value = _decode(state, False, codes)
    k += run
    i = k & _U(63)
    coefs[at + places[i]] = np.float32(value) * quants[i]
    return state, k + _U(1)


@compiled(**INLINE)
def _rest(
    bits: Any, state: Any, k: Any, codes: Any, coefs: Any, at: Any, places: Any, quants: Any
) -> Any:
    """Decode the rest of a block: state, k."""
    while k < _BLOCK:
        state, k = _ac(_refill(bits, state), k, codes, coefs, at, places, quants)
        if k < _BLOCK:
            state, k = _ac(state, k, codes, coefs, at, places, quants)
    return state, k


@compiled(**INLINE)
def _is_used_up(state: Any, end: Any) -> Any:
    """Tell whether all bytes before `end` were needed, and no more."""
    bits_left = np.int64(_U(8) * end + state[1] - _U(8) * state[2])
    return bits_left >= 0 and bits_left < 8


@compiled(**OPTIONS)
def decode_pair(
    bits: Any, ends: Any, lookups: Any, longest: Any, symbols: Any, all_quants: Any, places: Any, layout: Any,
    interval: int, coefs: Any, starts: Any, dc: Any,
) -> bool:  # fmt: skip
    """Decode two tiles of `interval` MCUs, bits[ends[0]:ends[1]] and bits[ends[1]:ends[2]]: False
    if one is damaged.

    layout int64 [blocks of an MCU, 4] tells a block's component, whether it is chroma, its offset
    in `coefs` and the step from MCU to MCU; starts int64 [tile, luma or chroma] where a tile starts
    in `coefs`, which has to be zero; places uint64 [64] leads from zigzag order to the place in a
    block. `bits` has SLACK bytes after ends[2]; dc int64 [2, 3] is scratch. At most two
    coefficients (27 + 26 bits) are decoded between two refills of 56 bits.
    """
    end_a = _U(ends[1])
    end_b = _U(ends[2])
    a = (_U(0), _U(0), _U(ends[0]))
    b = (_U(0), _U(0), end_a)
    dc[:] = 0
    for mcu in range(interval):
        for block in range(len(layout)):
            if a[2] > end_a + _U(7) or b[2] > end_b + _U(7):
                return False
            component = layout[block, 0]
            chroma = layout[block, 1]
            offset = layout[block, 2] + mcu * layout[block, 3]
            quants = all_quants[component]
            at_a = _U(starts[0, chroma] + offset)
            at_b = _U(starts[1, chroma] + offset)
            codes = (lookups[chroma], longest[chroma], symbols[chroma])
            a, run_a, value_a = _decode(_refill(bits, a), True, codes)
            b, run_b, value_b = _decode(_refill(bits, b), True, codes)
            if run_a | run_b != _U(0):
                return False
            dc[0, component] = np.int16(dc[0, component] + value_a)
            dc[1, component] = np.int16(dc[1, component] + value_b)
            coefs[at_a] = np.float32(dc[0, component]) * quants[0]
            coefs[at_b] = np.float32(dc[1, component]) * quants[0]

            codes = (lookups[chroma + 2], longest[chroma + 2], symbols[chroma + 2])
            k_a = _U(1)
            k_b = _U(1)
            while k_a < _BLOCK and k_b < _BLOCK:
                a, k_a = _ac(_refill(bits, a), k_a, codes, coefs, at_a, places, quants)
                b, k_b = _ac(_refill(bits, b), k_b, codes, coefs, at_b, places, quants)
                if k_a >= _BLOCK or k_b >= _BLOCK:
                    break
                a, k_a = _ac(a, k_a, codes, coefs, at_a, places, quants)
                b, k_b = _ac(b, k_b, codes, coefs, at_b, places, quants)
            a, k_a = _rest(bits, a, k_a, codes, coefs, at_a, places, quants)
            b, k_b = _rest(bits, b, k_b, codes, coefs, at_b, places, quants)
            if _BLOCK < k_a <= _END or _BLOCK < k_b <= _END:
                return False
    return _is_used_up(a, end_a) and _is_used_up(b, end_b)
