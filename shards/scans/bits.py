"""Bits of a JPEG's entropy-coded segments, read one Huffman symbol after another. Compiled, bounds
kept.
"""

from typing import Any

import numpy as np

from shards.host.compiled import compiled

MAX_DC_CATEGORY = 11  # of 8-bit samples
# A bit reader's or writer's state: int64 [4 or more].
POS = 0
BUFFER = 1
COUNT = 2
PADDING = 3


def new_state() -> np.ndarray:
    """Make the state of a bit reader at the start of a scan; the last number is for who reads
    progressive scans.
    """
    return np.zeros(5, np.int64)


def left_over(state: np.ndarray, end: int) -> int:
    """Count the bytes of a scan, `end` bytes long, that a bit reader has not used."""
    return int(end - state[POS] + max(0, state[COUNT] - state[PADDING]) // 8)


@compiled()
def fill_decoding_table(counts: np.ndarray, values: np.ndarray, table: np.ndarray) -> None:
    """Expand a prefix code (16 counts, symbols) to uint16 [65536], zeros before: the next 16 bits
    give code length << 8 | symbol.

    Entry 0 means that no code starts so.
    """
    code = 0
    at = 0
    for length in range(1, 17):
        for _ in range(counts[length - 1]):
            first = code << (16 - length)
            last = first + (1 << (16 - length))
            table[first:last] = (length << 8) | values[at]
            code += 1
            at += 1
        code <<= 1


@compiled(inline="always")
def fill(data: np.ndarray, state: np.ndarray) -> None:
    """Have at least 32 bits in the buffer; past a marker or the end they are zeros, counted as
    padding.
    """
    while state[COUNT] <= 32:
        pos = state[POS]
        byte = np.int64(0)
        if pos < len(data) and data[pos] != 0xFF:
            byte = np.int64(data[pos])
            state[POS] = pos + 1
        elif pos + 1 < len(data) and data[pos + 1] == 0:
            byte = np.int64(0xFF)
            state[POS] = pos + 2
        else:
            state[PADDING] += 8
        state[BUFFER] = ((state[BUFFER] << 8) | byte) & 0xFFFFFFFFFF
        state[COUNT] += 8


@compiled(inline="always")
def take(state: np.ndarray, num_bits: int) -> Any:
    state[COUNT] -= num_bits
    return (state[BUFFER] >> state[COUNT]) & ((1 << num_bits) - 1)


@compiled(inline="always")
def next_symbol(data: np.ndarray, state: np.ndarray, table: np.ndarray) -> Any:
    """Read one Huffman symbol, or -1 where no code fits."""
    fill(data, state)
    entry = np.int64(table[(state[BUFFER] >> (state[COUNT] - 16)) & 0xFFFF])
    if entry == 0:
        return -1
    state[COUNT] -= entry >> 8
    return entry & 0xFF
