"""Say the coefficients of blocks in tokens (ITU-T T.81, F.1.2.2). Compiled."""

from typing import Any

import numpy as np

from preprocess.jpeg.intrinsics import nonzero64, trailing_zeros
from preprocess.jpeg.scan_coding import size_of
from preprocess.jpeg.scan_reader import SYMBOL_SHIFT
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS

_U = np.uint64
_SIXTEEN_ZEROS = 0xF0


@compiled(**OPTIONS)
def say_block(values: Any, at: int, is_luma: bool, said: Any, block: int, token: int) -> Any:
    """Say values[at : at + 64] int16 (zigzag) as a block; return the next token's number."""
    said.levels[block] = values[at]
    table = 257 if is_luma else 771
    first = token
    left = nonzero64(values, at) & ~_U(1)
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
        value = np.int64(values[at + k])
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
        token = say_block(coefficients, 64 * block, is_luma, said, block, token)
    return token
