"""Forward DCT and quantisation of planes. Compiled; sums have one order."""

from typing import Any

import numpy as np

from preprocess.jpeg.intrinsics import quantise_line
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS
from shards.tiles.transform import ZIGZAG, dct_scales, turn
from shards.tiles.vectors import LANES

_F = np.float32
_ROOT_HALF = _F(0.707106781)
_C1 = _F(0.382683433)
_C2 = _F(0.541196100)
_C3 = _F(1.306562965)
# Of luma and chroma, as in ITU-T T.81, K.1, v * 8 + u.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99, *(32 * [99]),
)  # fmt: skip


def quantisers(quality: int) -> list[np.ndarray]:
    """Return the tables of luma and chroma that libjpeg takes for a quality: int64 [64], v * 8 + u."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [np.clip((np.array(t) * scale + 50) // 100, 1, 255) for t in (_LUMA, _CHROMA)]


def quantisation_payload(number: int, table: np.ndarray) -> bytes:
    """Return a DQT payload."""
    return bytes([number, *table[ZIGZAG].tolist()])


def reciprocals(table: np.ndarray) -> np.ndarray:
    """Return what forward_dct's results are multiplied by: float32 [8 * LANES], a line for each u."""
    factors = 1 / (64 * dct_scales() * table.reshape(8, 8))
    return np.tile(factors.T, LANES // 8).astype(np.float32).ravel()


@compiled(**OPTIONS)
def forward_dct(lines: Any, at: int, num_blocks: int) -> None:
    """Transform lines[at:], num_blocks times eight samples, in place (Arai, Agui and Nakajima)."""
    for number in range(num_blocks):
        block = lines[at + number * 8 * LANES : at + (number + 1) * 8 * LANES]
        for i in range(LANES):
            t0 = block[i] + block[i + 7 * LANES]
            t7 = block[i] - block[i + 7 * LANES]
            t1 = block[i + LANES] + block[i + 6 * LANES]
            t6 = block[i + LANES] - block[i + 6 * LANES]
            t2 = block[i + 2 * LANES] + block[i + 5 * LANES]
            t5 = block[i + 2 * LANES] - block[i + 5 * LANES]
            t3 = block[i + 3 * LANES] + block[i + 4 * LANES]
            t4 = block[i + 3 * LANES] - block[i + 4 * LANES]
            a = t0 + t3
            d = t0 - t3
            b = t1 + t2
            z1 = (t1 - t2 + d) * _ROOT_HALF
            block[i] = a + b
            block[i + 4 * LANES] = a - b
            block[i + 2 * LANES] = d + z1
            block[i + 6 * LANES] = d - z1
            p = t4 + t5
            r = t6 + t7
            z5 = (p - r) * _C1
            z2 = _C2 * p + z5
            z4 = _C3 * r + z5
            z3 = (t5 + t6) * _ROOT_HALF
            z11 = t7 + z3
            z13 = t7 - z3
            block[i + 5 * LANES] = z13 + z2
            block[i + 3 * LANES] = z13 - z2
            block[i + LANES] = z11 + z4
            block[i + 7 * LANES] = z11 - z4


@compiled(**OPTIONS)
def to_coefficients(
    plane: Any, at: int, factors: Any, square: Any, out: Any, to: int, filled: Any
) -> None:
    """Transform and quantise a square of LANES rows by LANES columns, plane[at:], to int16 out[to:].

    They are in the order of a strip's: columns of blocks, 8 frequencies across, four times 8 down.
    `filled` uint32 [lines of out] says which numbers of a line are not 0.
    """
    forward_dct(plane, at, LANES // 8)
    turn(plane, at, LANES, square, 0)
    forward_dct(square, 0, LANES // 8)
    for line in range(LANES):
        into = to + line * LANES
        quantise_line(square, line * LANES, factors, (line & 7) * LANES, out, into, filled)
