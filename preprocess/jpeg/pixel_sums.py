"""Sums of the pixels of a strip of coefficients, for the statistics of a dataset. Compiled.

The pixels are those of this inverse DCT with chroma repeated, rounded to bytes: whole numbers, so
that neither order nor CPU changes a sum.
"""

from typing import Any, NamedTuple

import numpy as np

from preprocess.jpeg.intrinsics import add_halved_line, add_line
from preprocess.jpeg.scratch import KeptArrays
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS
from shards.tiles.transform import inverse_dct, turn
from shards.tiles.vectors import LANES

SQUARE = LANES * LANES
SUM_LINES = 6 * LANES  # of a panel of LANES columns: R, G, B and their squares


class Sums(NamedTuple):
    """Where sums are added up."""

    panels: np.ndarray  # uint32 [panels * SUM_LINES]: by column, enough for 65,535 rows
    squares: np.ndarray  # float32 [4 * SQUARE]: pixels of Y, Cb and Cr, then zeros
    totals: np.ndarray  # int64 [6]


def sums_for(width: int, scratch: KeptArrays) -> Sums:
    """Make room for the sums of an image, or take what is there."""
    return Sums(
        panels=scratch.exactly("sums", -(-width // LANES) * SUM_LINES, np.uint32),
        squares=scratch.array("squares", 4 * SQUARE, np.float32),
        totals=scratch.array("totals", 6, np.int64),
    )


@compiled(**OPTIONS)
def _to_square(coefs: Any, at: int, squares: Any, to: int) -> None:
    """Finish the inverse DCT of four blocks across by four down: squares[to:] are lines of rows."""
    turn(coefs, at, LANES, squares, to)
    inverse_dct(squares, to, 4)


@compiled(**OPTIONS)
def add_strip(
    coefs: Any,
    mcus_across: int,
    luma_h: int,
    luma_v: int,
    grey: bool,
    width: int,
    rows: Any,
    sums: Any,
) -> None:
    """Add a strip of four MCU rows, of which `rows` of pixels are in the image.

    coefs: luma, Cb and Cr after the inverse DCT along lines; chroma has a block in an MCU.
    """
    squares = sums.squares
    chroma_at = luma_v * mcus_across * luma_h * 8 * LANES
    group = mcus_across * 8 * LANES
    num_panels = (width + LANES - 1) // LANES
    for wide in range((num_panels + luma_h - 1) // luma_h):
        if not grey:
            _to_square(coefs, chroma_at + wide * SQUARE, squares, SQUARE)
            _to_square(coefs, chroma_at + group + wide * SQUARE, squares, 2 * SQUARE)
        for side in range(min(luma_h, num_panels - wide * luma_h)):
            panel = wide * luma_h + side
            for below in range(min(luma_v, (rows + LANES - 1) // LANES)):
                _to_square(coefs, below * luma_h * group + panel * SQUARE, squares, 0)
                for row in range(min(np.int64(LANES), rows - below * LANES)):
                    chroma = ((below * LANES + row) >> (luma_v - 1)) * LANES
                    to = panel * SUM_LINES
                    if grey:
                        zeros = 3 * SQUARE
                        add_line(
                            squares, row * LANES, squares, zeros, squares, zeros, sums.panels, to
                        )
                    elif luma_h == 1:
                        blue = SQUARE + chroma
                        add_line(
                            squares,
                            row * LANES,
                            squares,
                            blue,
                            squares,
                            blue + SQUARE,
                            sums.panels,
                            to,
                        )
                    else:
                        blue = SQUARE + chroma + side * LANES // 2
                        add_halved_line(
                            squares,
                            row * LANES,
                            squares,
                            blue,
                            squares,
                            blue + SQUARE,
                            sums.panels,
                            to,
                        )


@compiled(**OPTIONS)
def add_up(sums: Any, width: Any) -> None:
    """Sum up the panels' columns inside the image to sums.totals."""
    sums.totals[:] = 0
    for panel in range((width + LANES - 1) // LANES):
        for line in range(6):
            total = np.int64(0)
            for column in range(min(np.int64(LANES), width - panel * LANES)):
                total += np.int64(sums.panels[panel * SUM_LINES + line * LANES + column])
            sums.totals[line] += total
