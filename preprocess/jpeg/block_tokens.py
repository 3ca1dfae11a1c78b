"""Say the coefficients of blocks in tokens (ITU-T T.81, F.1.2.2). Compiled."""

from typing import Any

import numpy as np

from preprocess.jpeg.intrinsics import nonzero64
from preprocess.jpeg.scan_coding import size_of
from preprocess.jpeg.scan_reader import SYMBOL_SHIFT
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS
from shards.tiles.transform import ZIGZAG
from shards.tiles.vectors import trailing_zeros

_U = np.uint64
_SIXTEEN_ZEROS = 0xF0
_IN_ORDER = np.arange(64, dtype=np.uint64)


def _spread() -> np.ndarray:
    """Say which bits in zigzag order are those of 8 numbers v of column u: uint64 [u, bits]."""
    order = np.argsort(ZIGZAG)
    spread = np.zeros((8, 256), np.uint64)
    for u in range(8):
        for v in range(8):
            bit = np.uint64(1 << int(order[v * 8 + u]))
            spread[u, np.arange(256) >> v & 1 == 1] |= bit
    return spread


_SPREAD = _spread()


@compiled(**OPTIONS)
def zigzag_bits(filled: Any, line: int, shift: int) -> Any:
    """Say which of a block's coefficients are not 0: uint64, the first in zigzag order lowest.

    Those of column u are in bits shift to shift + 7 of filled[line + u], uint32.
    """
    bits = _U(0)
    for u in range(8):
        column = (np.int64(filled[line + u]) >> shift) & 255
        bits |= _SPREAD[u, column]
    return bits


@compiled(**OPTIONS)
def say_block(
    values: Any, at: int, places: Any, bits: Any, is_luma: bool, said: Any, block: int, token: int
) -> Any:
    """Say a block; return the next token's number.

    Its coefficients, in zigzag order, are values[at + places], int16; `bits` says which are not 0.
    """
    said.levels[block] = values[at]
    table = 257 if is_luma else 771
    first = token
    left = bits & ~_U(1)
    before = np.int64(0)
    while left != _U(0):
        k = trailing_zeros(left)
        left &= left - _U(1)
        run = k - before - 1
        before = k
        while run > 15:
            said.tokens[token] = 2048 | _SIXTEEN_ZEROS << SYMBOL_SHIFT
            said.frequencies[table + _SIXTEEN_ZEROS] += 1
            token += 1
            run -= 16
        value = np.int64(values[_U(at) + places[_U(k)]])
        symbol = run << 4 | size_of(value)
        said.tokens[token] = 2048 + value | symbol << SYMBOL_SHIFT
        said.frequencies[table + symbol] += 1
        token += 1
    if before < 63:  # end of block
        said.tokens[token] = 2048
        said.frequencies[table] += 1
        token += 1
    said.counts[block] = token - first
    return token


@compiled(**OPTIONS)
def say_blocks(coefficients: Any, components: Any, said: Any) -> Any:
    """Say coefficients int16 [blocks * 64] (zigzag), an MCU after another: how many tokens.

    `components` int64 [blocks of an MCU] gives each block's component.
    """
    said.frequencies[:] = 0
    token = np.int64(0)
    per_mcu = len(components)
    for block in range(len(coefficients) // 64):
        is_luma = components[block % per_mcu] == 0
        at = 64 * block
        bits = nonzero64(coefficients, at)
        token = say_block(coefficients, at, _IN_ORDER, bits, is_luma, said, block, token)
    return token
