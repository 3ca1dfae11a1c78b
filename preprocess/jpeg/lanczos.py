"""Weights of Pillow's LANCZOS filter along an axis, for luma and for chroma. Compiled.

The filter's values come from a table of whole numbers and weights are rounded to whole 65,536ths,
so that neither the machine's sine nor its rounding shows in a pixel.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS
from shards.tiles.vectors import LANES

_LOBES = 3
_STEPS = 1024  # of the table between two whole numbers
_ONE = 65536.0  # a weight of 1
_DISTANCES = np.arange(_LOBES * _STEPS + 2) / _STEPS
_FILTER = np.where(_DISTANCES < _LOBES, np.sinc(_DISTANCES) * np.sinc(_DISTANCES / _LOBES), 0)
TABLE = np.round(_FILTER * 2**30) / 2**30
_KEPT = 64  # axes: 50 kB each of usual photographs


class Weights(NamedTuple):
    """weights float32 [padded outputs * taps]; spans int64 [padded outputs, 2]: the first input of
    an output, and how many. Outputs past the end repeat the last.
    """

    weights: np.ndarray
    spans: np.ndarray
    taps: int


@compiled(**OPTIONS)
def _filter_rows(num_in: int, table: Any, weights: Any, spans: Any) -> None:
    """Fill weights float64 [outputs, taps] and spans of the filter itself."""
    num_out = len(weights)
    scale = num_in / num_out
    stretch = max(1.0, scale)
    for i in range(num_out):
        if num_in == num_out:
            spans[i, 0] = i
            spans[i, 1] = 1
            weights[i, 0] = 1.0
            continue
        centre = (i + 0.5) * scale
        low = int(max(0.0, centre - _LOBES * stretch + 0.5))
        high = min(num_in, int(centre + _LOBES * stretch + 0.5))
        total = 0.0
        for j in range(high - low):
            x = abs(low + j + 0.5 - centre) / stretch * _STEPS
            n = int(x)
            weight = 0.0
            if n < len(table) - 1:
                weight = table[n] + (table[n + 1] - table[n]) * (x - n)
            weights[i, j] = weight
            total += weight
        for j in range(high - low):
            weights[i, j] /= total
        spans[i, 0] = low
        spans[i, 1] = high - low


@compiled(**OPTIONS)
def _chroma_rows(
    weights: Any, spans: Any, num_in: int, is_halved: bool, chroma: Any, chroma_spans: Any
) -> None:
    """Fill weights of chroma at half of the outputs: the mean of two of them.

    Where its input is halved too, that is upsampled before as libjpeg does, by 3/4 and 1/4.
    """
    num_samples = (num_in + 1) // 2 if is_halved else num_in
    for i in range(len(chroma)):
        a = 2 * i
        b = min(2 * i + 1, len(weights) - 1)
        first = min(spans[a, 0], spans[b, 0])
        last = max(spans[a, 0] + spans[a, 1], spans[b, 0] + spans[b, 1]) - 1
        if is_halved:
            first = max(0, (first - 1) >> 1)
            last = min(num_samples - 1, (last + 1) >> 1)
        for j in range(last + 1 - first):
            chroma[i, j] = 0.0
        for row in (a, b):
            for j in range(spans[row, 1]):
                at = spans[row, 0] + j
                weight = 0.5 * weights[row, j]
                if is_halved:
                    near = at >> 1
                    far = min(max(near - 1 + 2 * (at & 1), 0), num_samples - 1)
                    chroma[i, near - first] += 0.75 * weight
                    chroma[i, far - first] += 0.25 * weight
                else:
                    chroma[i, at - first] += weight
        chroma_spans[i, 0] = first
        chroma_spans[i, 1] = last + 1 - first


@compiled(**OPTIONS)
def _round_rows(weights: Any, spans: Any, out: Any, taps: int, out_spans: Any) -> None:
    """Round weights, without zeros at the ends, to `out` float32; the last row is repeated."""
    for i in range(len(out_spans)):
        row = min(i, len(weights) - 1)
        first = 0
        last = spans[row, 1]
        while first < last - 1 and np.rint(weights[row, first] * _ONE) == 0.0:
            first += 1
        while last - 1 > first and np.rint(weights[row, last - 1] * _ONE) == 0.0:
            last -= 1
        for j in range(last - first):
            out[i * taps + j] = np.float32(np.rint(weights[row, first + j] * _ONE) / _ONE)
        out_spans[i, 0] = spans[row, 0] + first
        out_spans[i, 1] = last - first


def _rounded(weights: np.ndarray, spans: np.ndarray, padded: int) -> Weights:
    taps = weights.shape[1]
    made = Weights(np.zeros(padded * taps, np.float32), np.zeros((padded, 2), np.int64), taps)
    _round_rows(weights, spans, made.weights, taps, made.spans)
    return made


@lru_cache(_KEPT)
def axis_weights(num_in: int, num_out: int, is_halved: bool) -> tuple[Weights, Weights]:
    """Make the weights from num_in samples to num_out: of luma, and of chroma to half as many.

    `is_halved` says that chroma has half of num_in to begin with. Luma is padded to whole pairs of
    LANES, chroma to whole LANES.
    """
    taps = math.ceil(2 * _LOBES * max(1.0, num_in / num_out)) + 4
    weights = np.zeros((num_out, taps))
    spans = np.zeros((num_out, 2), np.int64)
    _filter_rows(num_in, TABLE, weights, spans)
    half = (num_out + 1) // 2
    chroma = np.zeros((half, 2 * taps))
    chroma_spans = np.zeros((half, 2), np.int64)
    _chroma_rows(weights, spans, num_in, is_halved, chroma, chroma_spans)
    padded = -(-num_out // (2 * LANES)) * LANES
    return _rounded(weights, spans, 2 * padded), _rounded(chroma, chroma_spans, padded)
