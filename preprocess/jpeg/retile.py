"""Tile a JPEG without loss: the same coefficients with new Huffman codes."""

import struct
from collections.abc import Callable

import numpy as np

from preprocess.jpeg.block_tokens import say_blocks
from preprocess.jpeg.jpeg_scan import (
    Opened,
    check_colours,
    is_usual,
    open_jpeg,
    open_scan,
    tokens_for,
)
from preprocess.jpeg.pixel_sums import sums_for
from preprocess.jpeg.scan_reader import Tokens
from preprocess.jpeg.scratch import KeptArrays
from preprocess.jpeg.strips import read_tokens
from preprocess.jpeg.tile_file import Tiled, tile_file
from shards.scans.block_grid import Grid
from shards.scans.headers import layout, scans_of
from shards.scans.progressive import read_scans

_SCRATCH = KeptArrays()


def retile(
    data: bytes, interval_of: Callable[[int, int], int], keep_grey: bool = False
) -> bytes | None:
    """Rewrite a JPEG as baseline with restart markers, optimised codes and no metadata; None where
    not possible.

    `interval_of(MCUs of a row, rows)` chooses the restart interval. The coefficients stay the same,
    so every decoder gives the same pixels. A grey image gets two empty chroma planes, unless
    `keep_grey`: an RGB one of equal pixels. Arithmetic, 12-bit and CMYK files are not rewritten,
    nor damaged ones or progressive ones that lack scans.
    """
    opened = open_jpeg(data)
    tiled = None if opened is None else tile(opened, interval_of, keep_grey, False)
    return None if tiled is None else tiled.data


def tile(
    opened: Opened, interval_of: Callable[[int, int], int], keep_grey: bool, is_summed: bool
) -> Tiled | None:
    """Do what `retile` does, and sum up the pixels if that is asked for."""
    headers = opened.headers
    try:
        read = _read(opened, is_summed)
    except (IndexError, struct.error, ValueError):
        return None
    if read is None:
        return None
    said, sums = read
    components, mcus_across, num_mcus = layout(headers)
    grey = len(headers.components) == 1 and not keep_grey
    if grey:
        headers.components *= 3
    interval = interval_of(mcus_across, num_mcus // mcus_across)
    file = tile_file(headers, said, (components, num_mcus), interval, grey, _SCRATCH)
    return Tiled(file, headers.width, headers.height, sums)


def _read(opened: Opened, is_summed: bool) -> tuple[Tokens, tuple[int, ...] | None] | None:
    """Read what the blocks say, and perhaps sums; None where the scans are damaged."""
    headers = opened.headers
    check_colours(headers)
    components, _, num_mcus = layout(headers)
    num_blocks = num_mcus * len(components)
    if not opened.is_one_scan:
        coefficients = _read_scans(opened)
        if coefficients is None:
            return None
        most = 4 * num_blocks + int(np.count_nonzero(coefficients))
        said = tokens_for(num_blocks, most, _SCRATCH)
        say_blocks(coefficients.ravel(), components, said)
        return said, None
    scan, codes, blocks = open_scan(opened, _SCRATCH)
    said = tokens_for(num_blocks, 8 * len(opened.data) + 128, _SCRATCH)
    is_summed = is_summed and is_usual(headers)
    sums = sums_for(headers.width, _SCRATCH)
    file = np.frombuffer(opened.data, np.uint8)
    if read_tokens(file, scan, codes, blocks, said, sums, is_summed) < 0:
        return None
    return said, tuple(sums.totals[:6].tolist()) if is_summed else None


def _read_scans(opened: Opened) -> np.ndarray | None:
    """Read an image of several scans: int16 [blocks, 64] in the order of one."""
    headers = opened.headers
    factors = [(c.horizontal, c.vertical) for c in headers.components]
    grid = Grid(headers.width, headers.height, factors)
    scans = scans_of(headers, opened.data, opened.segments, opened.payload)
    return read_scans(grid, scans, headers.progressive)
