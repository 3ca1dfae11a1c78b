"""Read the scan of a baseline JPEG in strips of four MCU rows, with its restart markers. Compiled.

A strip's coefficients are float32 [blocks of 8 frequencies across, LANES], component after
component, of each as many groups of four block rows as it has block rows in an MCU.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from preprocess.jpeg.pixel_sums import add_strip, add_up
from preprocess.jpeg.scan_reader import is_used_up, read_mcus, unstuff_scan
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS
from shards.tiles.transform import inverse_dct
from shards.tiles.vectors import LANES

MCU_ROWS = 4  # of a strip
BLOCK = 8 * LANES  # floats from one block to the next
_U = np.uint64


class OneScan(NamedTuple):
    """A scan and the frame that it is of."""

    start: int  # of its bytes in the file
    interval: int  # in MCUs; all of them where there are no restart markers
    mcus_across: int
    num_rows: int  # of MCUs
    width: int  # in pixels, as the height
    height: int
    factors: np.ndarray  # int64 [components, 2]: horizontal and vertical sampling
    bits: np.ndarray  # uint8: scratch for the file's bytes and SLACK more
    ends: np.ndarray  # uint64 [restart segments + 1]: scratch
    dc: np.ndarray  # int64 [components]: scratch


def strip_size(mcus_across: int, sampling: Iterable[tuple[int, int]]) -> int:
    """Count the floats of a strip."""
    return mcus_across * sum(horizontal * vertical for horizontal, vertical in sampling) * BLOCK


@compiled(**OPTIONS)
def _lay_out(scan: Any, row: int, blocks: Any) -> None:
    """Say where the blocks of MCU row `row` of a strip go."""
    number = np.int64(0)
    base = np.int64(0)
    for component in range(len(scan.factors)):
        across = scan.factors[component, 0]
        group = scan.mcus_across * across * BLOCK
        for y in range(scan.factors[component, 1]):
            below = row * scan.factors[component, 1] + y
            for x in range(across):
                blocks.where[number] = base + (below >> 2) * group + x * BLOCK + (below & 3) * 8
                blocks.step[number] = across * BLOCK
                number += 1
        base += group * scan.factors[component, 1]


@compiled(**OPTIONS)
def start_scan(data: Any, scan: Any) -> Any:
    """Fetch the bits: where reading starts; a segment of -1 where damaged."""
    found = unstuff_scan(data, scan.start, scan.bits, scan.ends)
    scan.dc[:] = 0
    return (_U(0), _U(0), _U(0)), np.int64(0 if found else -1), np.int64(scan.interval)


@compiled(**OPTIONS)
def read_strip(
    scan: Any, position: Any, strip: int, codes: Any, blocks: Any, said: Any, token: int
) -> Any:
    """Read a strip: (position, next token), token -1 where damaged.

    A position is (state of the reader, restart segment, MCUs left in it).
    """
    state, segment, left = position
    for row in range(min(np.int64(MCU_ROWS), scan.num_rows - MCU_ROWS * strip)):
        _lay_out(scan, row, blocks)
        mcu = np.int64(0)
        while mcu < scan.mcus_across:
            if left == 0:
                segment += 1
                if not is_used_up(state, scan.ends[segment]):
                    return (state, segment, left), np.int64(-1)
                state = (_U(0), _U(0), scan.ends[segment])
                left = np.int64(scan.interval)
                scan.dc[:] = 0
            stop = min(mcu + left, np.int64(scan.mcus_across))
            first = (MCU_ROWS * strip + row) * scan.mcus_across + mcu
            state, token = read_mcus(
                scan.bits, scan.ends[segment + 1], state, mcu, stop, codes, scan.dc, blocks, said,
                token, first * len(blocks.component),
            )  # fmt: skip
            if token < 0:
                return (state, segment, left), token
            left -= stop - mcu
            mcu = stop
    return (state, segment, left), token


@compiled(**OPTIONS)
def is_at_end(scan: Any, position: Any) -> Any:
    """Tell whether a scan was read to its last bit."""
    state, segment, _ = position
    return segment + 2 == len(scan.ends) and is_used_up(state, scan.ends[segment + 1])


@compiled(**OPTIONS)
def read_tokens(
    data: Any, scan: Any, codes: Any, blocks: Any, said: Any, sums: Any, is_summed: bool
) -> Any:
    """Read a scan to tokens and, if asked to, sum up its pixels: how many tokens; -1 if damaged.

    Sums can be had of grey, and of chroma that has a block in an MCU, luma one, two or four.
    """
    position = start_scan(data, scan)
    if position[1] < 0:
        return -1
    said.frequencies[:] = 0
    sums.panels[:] = 0
    luma_h = scan.factors[0, 0]
    luma_v = scan.factors[0, 1]
    height = 8 * luma_v * MCU_ROWS
    token = np.int64(0)
    for strip in range((scan.num_rows + MCU_ROWS - 1) // MCU_ROWS):
        blocks.coefs[:] = 0
        position, token = read_strip(scan, position, strip, codes, blocks, said, token)
        if token < 0:
            return -1
        if is_summed:
            inverse_dct(blocks.coefs, 0, len(blocks.coefs) // BLOCK)
            rows = min(height, scan.height - strip * height)
            grey = len(scan.factors) == 1
            add_strip(blocks.coefs, scan.mcus_across, luma_h, luma_v, grey, scan.width, rows, sums)
    add_up(sums, scan.width)
    return token if is_at_end(scan, position) else -1
