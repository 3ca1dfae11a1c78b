"""Write the scan of a baseline JPEG in tiles, with optimal codes. Compiled, inside its bounds.

Nothing is quantised again: tokens go from one Huffman coding to another (ITU-T T.81, annexes F and
K.2).
"""

from typing import Any, NamedTuple

import numpy as np

from preprocess.jpeg.intrinsics import leading_zeros, store64
from preprocess.jpeg.scan_reader import SYMBOL_SHIFT
from shards.host.compiled import compiled
from shards.tiles.compile_options import INLINE, OPTIONS
from shards.tiles.vectors import LANES, copy_run, trailing_zeros

_U = np.uint64
_LENGTH_SHIFT = 16  # of a code: bits below are the code itself
TILE_BYTES = 4  # that the end of a tile may take: bits up to a byte, stuffed, and a marker


class Coding(NamedTuple):
    """Optimal codes, in rows luma DC, luma AC, chroma DC, chroma AC, and scratch to find them."""

    codes: np.ndarray  # uint32 [4, 256]: length << 16 | code, 0 for a symbol that does not occur
    described: np.ndarray  # uint8 [4, 272]: payload of a DHT without its class byte
    heap: np.ndarray  # int64 [257], as the next two
    other: np.ndarray
    size: np.ndarray
    bits: np.ndarray  # int64 [258]
    before: np.ndarray  # int64 [4]


@compiled(**INLINE)
def size_of(value: Any) -> Any:
    """Count the bits of a number's magnitude."""
    return np.int64(32) - leading_zeros(abs(value))


@compiled(**OPTIONS)
def _count_differences(
    said: Any, components: Any, num_mcus: int, interval: int, grey: bool, before: Any
) -> None:
    """Turn DC levels into differences that start at each tile of `interval` MCUs; count them."""
    per_mcu = len(components)
    block = np.int64(0)
    for mcu in range(num_mcus):
        if mcu % interval == 0:
            before[:] = 0
        for i in range(per_mcu):
            component = components[i]
            level = np.int64(said.levels[block])
            difference = level - before[component]
            before[component] = level
            said.levels[block] = difference
            said.frequencies[(0 if component == 0 else 514) + size_of(difference)] += 1
            block += 1
    if grey:
        said.frequencies[514] += 2 * num_mcus
        said.frequencies[771] += 2 * num_mcus


@compiled(**OPTIONS)
def _sift(heap: Any, num: int, at: int) -> None:
    """Let heap[at] sink to its place."""
    item = heap[at]
    child = 2 * at + 1
    while child < num:
        if child + 1 < num and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = item


@compiled(**INLINE)
def _lengthen(size: Any, other: Any, symbol: Any) -> Any:
    """Make the codes of all symbols that are joined to `symbol` longer; return the last of them."""
    size[symbol] += 1
    while other[symbol] >= 0:
        symbol = other[symbol]
        size[symbol] += 1
    return symbol


@compiled(**OPTIONS)
def _find_sizes(frequencies: Any, c: Any) -> None:
    """Find the lengths of optimal codes (figures K.1 and K.2); of equal symbols the last is first.

    Symbol 256 is reserved so that no code is all ones, as the standard demands.
    """
    frequencies[256] = 1
    num = np.int64(0)
    for symbol in range(257):
        c.size[symbol] = 0
        c.other[symbol] = -1
        if frequencies[symbol] > 0:
            c.heap[num] = frequencies[symbol] << 9 | (511 - symbol)
            num += 1
    for at in range(num // 2 - 1, -1, -1):
        _sift(c.heap, num, at)
    while num > 1:
        least = c.heap[0]
        num -= 1
        c.heap[0] = c.heap[num]
        _sift(c.heap, num, 0)
        first = 511 - (least & 511)
        second = 511 - (c.heap[0] & 511)
        c.heap[0] = ((least >> 9) + (c.heap[0] >> 9)) << 9 | (511 - first)
        _sift(c.heap, num, 0)
        c.other[_lengthen(c.size, c.other, first)] = second
        _lengthen(c.size, c.other, second)


@compiled(**OPTIONS)
def _limit_sizes(size: Any, bits: Any) -> None:
    """Count codes per length, moving those longer than 16 bits up (K.3), without symbol 256."""
    bits[:] = 0
    for length in size:
        bits[length] += 1
    bits[0] = 0
    for i in range(257, 16, -1):
        while bits[i] > 0:
            j = i - 2
            while bits[j] == 0:
                j -= 1
            bits[i] -= 2
            bits[i - 1] += 1
            bits[j + 1] += 2
            bits[j] -= 1
    last = 16
    while bits[last] == 0:
        last -= 1
    bits[last] -= 1


@compiled(**OPTIONS)
def _make_codes(frequencies: Any, coding: Any, row: int) -> Any:
    """Make the optimal codes of a table and their DHT payload, whose length is returned."""
    _find_sizes(frequencies, coding)
    _limit_sizes(coding.size, coding.bits)
    described = coding.described[row]
    end = np.int64(16)
    longest = np.int64(0)
    for symbol in range(256):
        longest = max(longest, coding.size[symbol])
    for length in range(1, longest + 1):  # symbols by length, then by number
        for symbol in range(256):
            if coding.size[symbol] == length:
                described[end] = symbol
                end += 1
    coding.codes[row, :] = 0
    code = np.int64(0)
    number = np.int64(16)
    for length in range(1, 17):
        described[length - 1] = coding.bits[length]
        for _ in range(coding.bits[length]):
            coding.codes[row, described[number]] = code | length << _LENGTH_SHIFT
            code += 1
            number += 1
        code <<= 1
    return end


@compiled(**OPTIONS)
def plan_tiles(
    said: Any, components: Any, num_mcus: int, interval: int, grey: bool, coding: Any, sizes: Any
) -> Any:
    """Make the codes for tiles of `interval` MCUs: how many bits all blocks will take.

    `components` int64 [blocks of an MCU]. `grey` adds two empty chroma blocks to each MCU. DC
    levels become differences. sizes int64 [4]: bytes of `described`, 0 of tables that are not used.
    """
    _count_differences(said, components, num_mcus, interval, grey, coding.before)
    has_chroma = grey or components[-1] > 0
    num_bits = np.int64(0)
    for row in range(4):
        sizes[row] = 0
        if row >= 2 and not has_chroma:
            continue
        frequencies = said.frequencies[257 * row : 257 * (row + 1)]
        sizes[row] = _make_codes(frequencies, coding, row)
        for symbol in range(256):
            length = np.int64(coding.codes[row, symbol] >> np.uint32(_LENGTH_SHIFT))
            num_bits += frequencies[symbol] * (length + (symbol & 15))
    return num_bits


@compiled(**INLINE)
def _with_value(codes: Any, row: Any, symbol: Any, value: Any) -> Any:
    """Return a code followed by its value's bits (F.1.2.1), and how many bits these are."""
    entry = np.int64(codes[row, symbol])
    size = symbol & 15
    more = (value + (value >> 63)) & ((np.int64(1) << size) - 1)
    return (entry & 0xFFFF) << size | more, (entry >> _LENGTH_SHIFT) + size


@compiled(**INLINE)
def _of_token(codes: Any, row: Any, token: Any) -> Any:
    said = np.int64(token)
    return _with_value(codes, row, (said >> SYMBOL_SHIFT) & 255, (said & 4095) - 2048)


@compiled(**INLINE)
def _flush(raw: Any, at: Any, buffer: Any, count: Any) -> Any:
    """Write the whole bytes of a buffer whose upper `count` bits count: (at, buffer, count < 8)."""
    store64(raw, at, buffer)
    whole = count >> 3
    return at + whole, buffer << _U(whole << 3), count & 7


@compiled(**INLINE)
def _append(buffer: Any, count: Any, value: Any, num_bits: Any) -> Any:
    return buffer | _U(value) << _U(64 - count - num_bits), count + num_bits


@compiled(**OPTIONS)
def _write_block(
    said: Any, block: int, token: int, codes: Any, row: int, raw: Any, state: Any
) -> Any:
    """Write a block's DC difference and tokens; a state is (position, buffer, how many bits)."""
    at, buffer, count = state
    difference = np.int64(said.levels[block])
    value, num_bits = _with_value(codes, row, size_of(difference), difference)
    buffer, count = _append(buffer, count, value, num_bits)
    last = token + np.int64(said.counts[block])
    while token + 1 < last:  # two tokens are at most 52 bits
        first, first_bits = _of_token(codes, row + 1, said.tokens[token])
        second, second_bits = _of_token(codes, row + 1, said.tokens[token + 1])
        at, buffer, count = _flush(raw, at, buffer, count)
        buffer, count = _append(
            buffer, count, first << second_bits | second, first_bits + second_bits
        )
        token += 2
    at, buffer, count = _flush(raw, at, buffer, count)
    if token < last:
        value, num_bits = _of_token(codes, row + 1, said.tokens[token])
        buffer, count = _append(buffer, count, value, num_bits)
        at, buffer, count = _flush(raw, at, buffer, count)
    return at, buffer, count


@compiled(**OPTIONS)
def _write_empty(codes: Any, raw: Any, state: Any) -> Any:
    """Write an empty block of chroma."""
    at, buffer, count = state
    for row in range(2, 4):
        value, num_bits = _with_value(codes, row, 0, np.int64(0))
        buffer, count = _append(buffer, count, value, num_bits)
        at, buffer, count = _flush(raw, at, buffer, count)
    return at, buffer, count


@compiled(**OPTIONS)
def _stuff(raw: Any, end: Any, out: Any, to: Any) -> Any:
    """Copy raw[:end] to out[to:] with a zero after each FF; return where the copy ends."""
    at = np.int64(0)
    while at + LANES <= end:
        marked = copy_run(raw, at, out, to)
        if marked == _U(0):
            at += LANES
            to += LANES
            continue
        before = trailing_zeros(marked) + 1
        out[to + before] = 0
        at += before
        to += before + 1
    while at < end:
        out[to] = raw[at]
        to += 1
        if raw[at] == 0xFF:
            out[to] = 0
            to += 1
        at += 1
    return to


@compiled(**OPTIONS)
def write_tiles(
    said: Any, components: Any, num_mcus: Any, interval: Any, grey: bool, codes: Any, raw: Any,
    out: Any, lengths: Any,
) -> Any:  # fmt: skip
    """Write what `plan_tiles` planned, with restart markers: how many bytes of `out` it takes.

    lengths int64 [tiles] becomes the bytes of each; `raw` is scratch for the bytes of one. `out`
    needs room for each byte to be stuffed, for TILE_BYTES a tile, and LANES more.
    """
    per_mcu = len(components)
    token = np.int64(0)
    block = np.int64(0)
    to = np.int64(0)
    for tile in range(len(lengths)):
        state = (np.int64(0), _U(0), np.int64(0))
        for _ in range(min(np.int64(interval), num_mcus - tile * interval)):
            for i in range(per_mcu):
                row = np.int64(0 if components[i] == 0 else 2)
                state = _write_block(said, block, token, codes, row, raw, state)
                token += said.counts[block]
                block += 1
            if grey:
                state = _write_empty(codes, raw, _write_empty(codes, raw, state))
        at, buffer, count = state
        if count > 0:  # filled up with ones (F.1.2.3)
            store64(raw, at, buffer | ((_U(1) << _U(64 - count)) - _U(1)))
            at += 1
        start = to
        to = _stuff(raw, at, out, to)
        lengths[tile] = to - start
        if tile + 1 < len(lengths):
            out[to] = 0xFF
            out[to + 1] = 0xD0 + tile % 8
            to += 2
    return to
