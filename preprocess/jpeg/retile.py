"""Tile a JPEG without loss: the same coefficients with new Huffman codes."""

import struct
from collections.abc import Callable

import numpy as np

from preprocess.jpeg.block_tokens import say_blocks
from preprocess.jpeg.jpeg_scan import check_colours, is_one_scan, is_usual, open_scan, tokens_for
from preprocess.jpeg.pixel_sums import sums_for
from preprocess.jpeg.scan_reader import Tokens
from preprocess.jpeg.scratch import Scratch
from preprocess.jpeg.strips import read_tokens
from preprocess.jpeg.tile_file import Tiled, tile_file
from shards.scans.block_grid import Grid
from shards.scans.headers import Headers, layout, read_segments, scans_of, segments_of
from shards.scans.progressive import read_scans

_SCRATCH = Scratch()


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
    tiled = tile(data, interval_of, keep_grey, False)
    return None if tiled is None else tiled.data


def tile(
    data: bytes, interval_of: Callable[[int, int], int], keep_grey: bool, is_summed: bool
) -> Tiled | None:
    """Do what `retile` does, and sum up the pixels if that is asked for."""
    headers = Headers()
    try:
        read = _read(headers, data, is_summed)
    except (IndexError, struct.error, ValueError):
        return None
    if read is None:
        return None
    said, sums = read
    grey = len(headers.components) == 1 and not keep_grey
    components, mcus_across, num_mcus = layout(headers)
    interval = interval_of(mcus_across, num_mcus // mcus_across)
    if grey:
        headers.components *= 3
    file = tile_file(headers, said, (components, num_mcus), interval, grey, _SCRATCH)
    return Tiled(file, headers.width, headers.height, sums)


def _read(
    headers: Headers, data: bytes, is_summed: bool
) -> tuple[Tokens, tuple[int, ...] | None] | None:
    """Read what the blocks say, and perhaps sums; None where the scans are damaged."""
    segments = segments_of(data)
    payload = read_segments(headers, data, segments)
    check_colours(headers)
    components, _, num_mcus = layout(headers)
    num_blocks = num_mcus * len(components)
    if not is_one_scan(headers, payload):
        factors = [(c.horizontal, c.vertical) for c in headers.components]
        grid = Grid(headers.width, headers.height, factors)
        scans = scans_of(headers, data, segments, payload)
        coefficients = read_scans(grid, scans, headers.progressive)
        if coefficients is None:
            return None
        most = 4 * num_blocks + int(np.count_nonzero(coefficients))
        said = tokens_for(num_blocks, most, _SCRATCH)
        say_blocks(coefficients.ravel(), components, said)
        return said, None
    scan, codes, blocks = open_scan(headers, data, payload, _SCRATCH)
    said = tokens_for(num_blocks, 8 * len(data) + 128, _SCRATCH)
    is_summed = is_summed and is_usual(headers)
    sums = sums_for(headers.width, _SCRATCH)
    file = np.frombuffer(data, np.uint8)
    if read_tokens(file, scan, codes, blocks, said, sums, is_summed) < 0:
        return None
    return said, tuple(sums.totals[:6].tolist()) if is_summed else None
