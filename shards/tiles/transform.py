"""Inverse DCT and resizing along one axis, and the exchange of axes between.

Data are float32 lines of LANES values: the position along the axis is the line's number, everything
else is a lane. Each step does the same to all lanes; nothing in between is rounded or clamped.
"""

import math
from typing import Any

import numpy as np

from shards.host.compiled import compiled
from shards.tiles.compile_options import INLINE, OPTIONS
from shards.tiles.vectors import (
    LANES,
    add_weighed,
    store_grey,
    store_rgb,
    turn8,
    weigh2,
    weigh3,
    weigh4,
)

_F = np.float32
_ROOT2 = _F(1.414213562)
_C1 = _F(1.847759065)
_C2 = _F(1.082392200)
_C3 = _F(2.613125930)

# From a coefficient's number in a scan to its place in a block, v * 8 + u (T.81, figure A.6).
ZIGZAG = np.array(
    [
        0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14,
        21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60,
        61, 54, 47, 55, 62, 63,
    ]
)  # fmt: skip


def dct_scales() -> np.ndarray:
    """Make the factors that inverse_dct, along both axes, wants its coefficients multiplied by:
    float64 [8, 8].
    """
    scales = np.cos(np.arange(8) * math.pi / 16) * math.sqrt(2)
    scales[0] = 1
    return np.outer(scales, scales) / 8


def max_taps(extent: int, size: int) -> int:
    """Tell how many weights an output of triangle_weights or halved_weights has at most."""
    return math.ceil(2 * max(1.0, extent / size)) + 4


@compiled(**OPTIONS)
def inverse_dct(lines: Any, at: int, num_blocks: int) -> None:
    """Transform lines[at:], num_blocks times eight frequencies, to pixels in place (Arai, Agui and
    Nakajima's way).
    """
    for number in range(num_blocks):
        block = lines[at + number * 8 * LANES : at + (number + 1) * 8 * LANES]
        for i in range(LANES):
            c0 = block[i]
            c2 = block[i + 2 * LANES]
            c4 = block[i + 4 * LANES]
            c6 = block[i + 6 * LANES]
            c1 = block[i + LANES]
            c3 = block[i + 3 * LANES]
            c5 = block[i + 5 * LANES]
            c7 = block[i + 7 * LANES]
            a = c0 + c4
            b = c0 - c4
            c = c2 + c6
            d = (c2 - c6) * _ROOT2 - c
            e0 = a + c
            e3 = a - c
            e1 = b + d
            e2 = b - d
            p = c5 + c3
            q = c5 - c3
            r = c1 + c7
            s = c1 - c7
            o7 = r + p
            t = (q + s) * _C1
            o6 = t - q * _C3 - o7
            o5 = (r - p) * _ROOT2 - o6
            o4 = t - s * _C2 - o5
            block[i] = e0 + o7
            block[i + 7 * LANES] = e0 - o7
            block[i + LANES] = e1 + o6
            block[i + 6 * LANES] = e1 - o6
            block[i + 2 * LANES] = e2 + o5
            block[i + 5 * LANES] = e2 - o5
            block[i + 3 * LANES] = e3 + o4
            block[i + 4 * LANES] = e3 - o4


@compiled(**OPTIONS)
def triangle_weights(
    start: int, extent: int, mirror: bool, origin: int, weights: Any, spans: Any
) -> None:
    """Make Pillow's antialiased bilinear filter, a triangle as wide as the shrink factor, along one
    axis.

    The box is [start, start + extent) in pixels of the image. weights float32 [size, taps]; spans
    int64 [size, 2], the first pixel, counted from pixel `origin`, and how many.
    """
    size = len(weights)
    scale = extent / size
    support = max(1.0, scale)
    narrow = _F(1 / support)
    for i in range(size):
        centre = (i + 0.5) * scale
        low = int(max(0.0, centre - support + 0.5))
        high = min(extent, int(centre + support + 0.5))
        row = size - 1 - i if mirror else i
        line = weights[row]
        distance = _F(low + 0.5 - centre)
        total = _F(0)
        line[1] = _F(0)  # weigh wants two
        for j in range(high - low):
            line[j] = _F(1) - abs(distance + _F(j)) * narrow
            total += line[j]
        unit = _F(1) / total
        for j in range(high - low):
            line[j] *= unit
        spans[row, 0] = start + low - origin
        spans[row, 1] = high - low


@compiled(**OPTIONS)
def halved_weights(
    weights: Any, spans: Any, origin: int, num_samples: int, halved: Any, halved_spans: Any
) -> None:
    """Make weights for a plane of half as many samples: libjpeg's upsampling (3/4 and 1/4), then
    `weights`.

    The plane has `num_samples` samples; spans count from the even pixel `origin`, halved_spans from
    half of that.
    """
    for row in range(len(weights)):
        line = weights[row]
        half = halved[row]
        start = origin + spans[row, 0]
        count = spans[row, 1]
        first = max(0, (start - 1) >> 1)
        last = min(num_samples - 1, (start + count) >> 1)
        half[1] = _F(0)
        for j in range(last + 1 - first):
            half[j] = _F(0)
        for j in range(count):
            near = (start + j) >> 1
            far = min(max(near - 1 + 2 * ((start + j) & 1), 0), num_samples - 1)
            half[near - first] += line[j] * _F(0.75)
            half[far - first] += line[j] * _F(0.25)
        halved_spans[row, 0] = first - origin // 2
        halved_spans[row, 1] = last + 1 - first


@compiled(**INLINE)
def weigh(lines: Any, at: int, count: int, weights: Any, out: Any, to: int) -> None:
    """out[to : to + LANES] = the weighted sum of the `count` lines from lines[at]; nothing where
    that is out of bounds.

    Fewer than two lines count as two.
    """
    if at < 0 or to < 0 or at + max(count, 2) * LANES > len(lines) or to + LANES > len(out):
        return
    if count <= 2:
        weigh2(lines, at, weights[0], weights[1], out, to)
    elif count == 3:
        weigh3(lines, at, weights[0], weights[1], weights[2], out, to)
    else:
        weigh4(lines, at, weights[0], weights[1], weights[2], weights[3], out, to)
        for j in range(4, count):
            add_weighed(lines, at + j * LANES, weights[j], out, to)


@compiled(**OPTIONS)
def resize(lines: Any, at: int, weights: Any, spans: Any, out: Any) -> None:
    """Resize lines[at:] along the axis: out float32 [at least size * LANES]."""
    for row in range(len(spans)):
        weigh(lines, at + spans[row, 0] * LANES, spans[row, 1], weights[row], out, row * LANES)


@compiled(**OPTIONS)
def turn(lines: Any, at: int, num_lanes: int, out: Any, to: int) -> None:
    """Exchange lines and lanes: out[to + i * LANES + j] = lines[at + j * LANES + i] for i <
    num_lanes, j < LANES.
    """
    if at < 0 or to < 0 or num_lanes > LANES or num_lanes % 8 != 0:
        return
    if at + (LANES - 1) * LANES + num_lanes > len(lines) or to + num_lanes * LANES > len(out):
        return
    for i in range(0, num_lanes, 8):
        for j in range(0, LANES, 8):
            turn8(lines, at + j * LANES + i, out, to + i * LANES + j)


@compiled(**INLINE)
def to_grey(planes: Any, out: Any, to: int) -> None:
    """Convert a line of luma, float32 [LANES], to the bytes of grey pixels at out[to:]."""
    if len(planes) >= LANES and to >= 0 and to + LANES <= len(out):
        store_grey(planes, out, to)


@compiled(**INLINE)
def ycc_to_rgb(planes: Any, out: Any, to: int) -> None:
    """Convert one line each of Y, Cb and Cr, float32 [3 * LANES], to the bytes of RGB pixels at
    out[to:].
    """
    if len(planes) >= 3 * LANES and to >= 0 and to + 3 * LANES <= len(out):
        store_rgb(planes, out, to)
