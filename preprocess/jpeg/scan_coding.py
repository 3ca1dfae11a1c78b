"""The entropy-coded part of a baseline JPEG: write its symbols again, in tiles. Compiled, with
bounds checks.

Nothing is quantised again: coefficients go from one Huffman coding to another (ITU-T T.81, annexes
F and K.2).
"""

from typing import Any

import numpy as np

from shards.host.compiled import compiled
from shards.scans.bits import BUFFER, COUNT, POS, category_of


@compiled()
def count_symbols(
    levels: np.ndarray,
    counts: np.ndarray,
    tokens: np.ndarray,
    components: np.ndarray,
    interval: int,
    grey: bool,
) -> np.ndarray:
    """Count how often each symbol comes with restart intervals of `interval` MCUs: int64 [4, 257].

    The rows are luma DC, luma AC, chroma DC, chroma AC. `grey` adds two empty chroma blocks to each
    MCU.
    """
    frequencies = np.zeros((4, 257), np.int64)
    predicted = np.zeros(4, np.int64)
    per_mcu = len(components)
    token = 0
    for block in range(len(levels)):
        if block % (per_mcu * interval) == 0:
            predicted[:] = 0
        component = components[block % per_mcu]
        table = 0 if component == 0 else 2
        frequencies[table, category_of(levels[block] - predicted[component])] += 1
        predicted[component] = levels[block]
        for _ in range(counts[block]):
            frequencies[table + 1, tokens[token] >> 16] += 1
            token += 1
        if grey:
            frequencies[2, 0] += 2
            frequencies[3, 0] += 2
    return frequencies


@compiled()
def optimal_lengths(frequencies: np.ndarray) -> np.ndarray:
    """Find code lengths int64 [257] of at most 16 bits for symbol frequencies [257]: T.81 figures
    K.1 to K.3.

    Symbol 256 is reserved so that no code is all ones, as the standard demands.
    """
    freq = frequencies.copy()
    freq[256] = 1
    size = np.zeros(257, np.int64)
    other = np.full(257, -1, np.int64)
    while True:
        first = -1
        second = -1
        for i in range(257):
            if freq[i] and (first < 0 or freq[i] <= freq[first]):
                second = first
                first = i
            elif freq[i] and (second < 0 or freq[i] <= freq[second]):
                second = i
        if second < 0:
            break
        freq[first] += freq[second]
        freq[second] = 0
        size[first] += 1
        while other[first] >= 0:
            first = other[first]
            size[first] += 1
        other[first] = second
        size[second] += 1
        while other[second] >= 0:
            second = other[second]
            size[second] += 1
    return size


@compiled()
def limited_bits(size: np.ndarray) -> np.ndarray:
    """Count codes per length, int64 [17], after moving those longer than 16 bits up (K.3), without
    symbol 256.
    """
    bits = np.zeros(258, np.int64)
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
    return bits[:17]


@compiled(inline="always")
def _put(out: np.ndarray, state: np.ndarray, value: int, num_bits: int) -> None:
    state[BUFFER] = (state[BUFFER] << num_bits) | value
    state[COUNT] += num_bits
    while state[COUNT] >= 8:
        state[COUNT] -= 8
        byte = (state[BUFFER] >> state[COUNT]) & 0xFF
        out[state[POS]] = byte
        state[POS] += 1
        if byte == 0xFF:
            out[state[POS]] = 0
            state[POS] += 1
    state[BUFFER] &= (1 << state[COUNT]) - 1


@compiled(inline="always")
def _fill_byte(out: np.ndarray, state: np.ndarray) -> None:
    missing = -state[COUNT] % 8
    _put(out, state, (1 << missing) - 1, missing)  # T.81 F.1.2.3: with ones


@compiled()
def write_tiles(
    levels: np.ndarray,
    counts: np.ndarray,
    tokens: np.ndarray,
    components: np.ndarray,
    interval: int,
    grey: bool,
    codes: np.ndarray,
    lengths: np.ndarray,
    out: np.ndarray,
) -> int:
    """Write the scan with a restart marker every `interval` MCUs; return the number of bytes
    written to `out`.

    `codes` and `lengths` int64 [luma DC, AC, chroma DC, AC; 256]. `out` must hold 8 bytes per token
    and block.
    """
    state = np.zeros(4, np.int64)
    predicted = np.zeros(4, np.int64)
    per_mcu = len(components)
    token = 0
    for block in range(len(levels)):
        if block % (per_mcu * interval) == 0:
            predicted[:] = 0
            if block:
                _fill_byte(out, state)
                out[state[POS]] = 0xFF
                out[state[POS] + 1] = 0xD0 + (block // (per_mcu * interval) - 1) % 8
                state[POS] += 2
        component = components[block % per_mcu]
        table = 0 if component == 0 else 2
        difference = levels[block] - predicted[component]
        predicted[component] = levels[block]
        category = category_of(difference)
        _put(out, state, codes[table, category], lengths[table, category])
        if difference < 0:
            difference += (1 << category) - 1
        _put(out, state, difference, category)
        for _ in range(counts[block]):
            symbol: Any = np.int64(tokens[token] >> 16)
            extra: Any = np.int64(tokens[token] & 0xFFFF)
            _put(out, state, codes[table + 1, symbol], lengths[table + 1, symbol])
            _put(out, state, extra, symbol & 15)
            token += 1
        if grey:
            for _ in range(2):
                _put(out, state, codes[2, 0], lengths[2, 0])
                _put(out, state, codes[3, 0], lengths[3, 0])
    _fill_byte(out, state)
    return state[POS]
