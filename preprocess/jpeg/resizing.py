"""Resize an image in planes of YCbCr and say it as a 4:2:0 JPEG: from a scan, or from pixels.
Compiled, inside its bounds.

Strips of the source are resized across as they are read and kept in a ring of lines, as many as the
filter needs. From these a group of 64 rows of the result is resized down, transformed, quantised
and said in tokens. So memory follows the width of an image, not its area.
"""

from typing import Any, NamedTuple

import numpy as np

from preprocess.jpeg.block_tokens import say_block, zigzag_bits
from preprocess.jpeg.forward import to_coefficients
from preprocess.jpeg.intrinsics import add_halved_line, clamp_line, weigh_all
from preprocess.jpeg.lanczos import Weights
from preprocess.jpeg.pixel_sums import SQUARE, SUM_LINES, add_up
from preprocess.jpeg.scan_reader import PLACES
from preprocess.jpeg.strips import BLOCK, MCU_ROWS, is_at_end, read_strip, start_scan
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS
from shards.tiles.transform import inverse_dct, turn
from shards.tiles.vectors import LANES

GROUP_ROWS = 2 * LANES  # of luma; of chroma half as many
_GROUP_MCUS = 4
_F = np.float32


class Axes(NamedTuple):
    """The filters, across and down, and which source rows each group needs of each component."""

    across_luma: Weights
    across_chroma: Weights
    down_luma: Weights
    down_chroma: Weights
    needs: np.ndarray  # int64 [groups, components, 2]: the first row, and the one after the last


class SourceRows(NamedTuple):
    """Source rows at the new width, in panels of LANES columns. All but lines: int64 [components]."""

    lines: np.ndarray  # float32
    bases: np.ndarray  # where a component starts
    strides: np.ndarray  # floats from panel to panel
    panels: np.ndarray
    first: np.ndarray  # the row at the start of a panel
    filled: np.ndarray  # the row after the last


class Target(NamedTuple):
    """The result, a group at a time: planes in panels of LANES columns, then coefficients."""

    width: int
    height: int
    planes: np.ndarray  # float32
    coefficients: np.ndarray  # int16
    bases: np.ndarray  # int64 [components], in both
    factors: np.ndarray  # float32 [2, 8 * LANES]: forward.reciprocals of luma and chroma
    filled: np.ndarray  # uint32 [lines of coefficients]: which of a line are not 0
    square: np.ndarray  # float32 [SQUARE], scratch
    resized: np.ndarray  # float32 [padded width * LANES], scratch


@compiled(**OPTIONS)
def _make_room(ring: Any, needs: Any) -> None:
    """Drop the rows before those that a group needs."""
    for component in range(len(ring.bases)):
        drop = (needs[component, 0] - ring.first[component]) * LANES
        keep = (ring.filled[component] - needs[component, 0]) * LANES
        if drop == 0:
            continue
        for panel in range(ring.panels[component]):
            at = ring.bases[component] + panel * ring.strides[component]
            for i in range(keep):
                ring.lines[at + i] = ring.lines[at + drop + i]
        ring.first[component] = needs[component, 0]


@compiled(**OPTIONS)
def _append(strip: Any, at: int, across: Any, ring: Any, component: int, scratch: Any) -> int:
    """Resize LANES rows across, from lines of columns at strip[at:]; return their first row's line.

    They go to the end of the ring, in each panel from that line on.
    """
    for i in range(ring.panels[component] * LANES):
        first = at + across.spans[i, 0] * LANES
        count = across.spans[i, 1]
        weigh_all(strip, first, count, across.weights, i * across.taps, scratch, i * LANES)
    start = (ring.filled[component] - ring.first[component]) * LANES
    for panel in range(ring.panels[component]):
        to = ring.bases[component] + panel * ring.strides[component] + start
        turn(scratch, panel * SQUARE, LANES, ring.lines, to)
    ring.filled[component] += LANES
    return start


@compiled(**OPTIONS)
def _append_strip(coefs: Any, scan: Any, axes: Any, ring: Any, scratch: Any) -> None:
    """Transform a strip's coefficients and add its rows to the ring."""
    inverse_dct(coefs, 0, len(coefs) // BLOCK)
    at = np.int64(0)
    for component in range(len(scan.factors)):
        across = axes.across_luma if component == 0 else axes.across_chroma
        for _ in range(scan.factors[component, 1]):
            start = _append(coefs, at, across, ring, component, scratch)
            for panel in range(ring.panels[component]):
                to = ring.bases[component] + panel * ring.strides[component] + start
                inverse_dct(ring.lines, to, LANES // 8)
            at += scan.mcus_across * scan.factors[component, 0] * BLOCK


@compiled(**OPTIONS)
def _append_pixels(pixels: Any, first: int, strip: Any, axes: Any, ring: Any, scratch: Any) -> None:
    """Convert LANES rows of RGB pixels to YCbCr, centred on 0, and add them to the ring."""
    height = pixels.shape[0]
    width = pixels.shape[1]
    size = width * LANES
    for y in range(LANES):
        row = pixels[min(first + y, height - 1)]
        for x in range(width):
            r = _F(row[x, 0])
            g = _F(row[x, 1])
            b = _F(row[x, 2])
            at = x * LANES + y
            strip[at] = _F(0.299) * r + _F(0.587) * g + _F(0.114) * b - _F(128)
            strip[size + at] = _F(-0.168735892) * r - _F(0.331264108) * g + _F(0.5) * b
            strip[2 * size + at] = _F(0.5) * r - _F(0.418687589) * g - _F(0.081312411) * b
    for component in range(3):
        across = axes.across_luma if component == 0 else axes.across_chroma
        _append(strip, component * size, across, ring, component, scratch)


@compiled(**OPTIONS)
def _is_filled(ring: Any, needs: Any) -> bool:
    missing = np.int64(0)
    for component in range(len(ring.bases)):
        missing = max(missing, needs[component, 1] - ring.filled[component])
    return bool(missing == 0)


@compiled(**OPTIONS)
def _resize_down(ring: Any, axes: Any, group: int, target: Any) -> None:
    """Resize a group's rows down to target.planes, clamped to what samples can be."""
    for component in range(len(ring.bases)):
        down = axes.down_luma if component == 0 else axes.down_chroma
        rows = GROUP_ROWS if component == 0 else LANES
        for panel in range(ring.panels[component]):
            at = ring.bases[component] + panel * ring.strides[component]
            for row in range(rows):
                i = group * rows + row
                first = at + (down.spans[i, 0] - ring.first[component]) * LANES
                to = target.bases[component] + (panel * rows + row) * LANES
                weigh_all(
                    ring.lines,
                    first,
                    down.spans[i, 1],
                    down.weights,
                    i * down.taps,
                    target.planes,
                    to,
                )
                clamp_line(target.planes, to)


@compiled(**OPTIONS)
def _sum_group(target: Any, group: int, sums: Any) -> None:
    """Add a group's pixels, with chroma repeated."""
    planes = target.planes
    for panel in range((target.width + LANES - 1) // LANES):
        for row in range(min(np.int64(GROUP_ROWS), target.height - group * GROUP_ROWS)):
            luma = (panel * GROUP_ROWS + row) * LANES
            to = panel * SUM_LINES
            if len(target.bases) == 1:
                add_halved_line(planes, luma, sums.squares, 0, sums.squares, 0, sums.panels, to)
                continue
            chroma = ((panel >> 1) * LANES + (row >> 1)) * LANES + (panel & 1) * LANES // 2
            blue = target.bases[1] + chroma
            red = target.bases[2] + chroma
            add_halved_line(planes, luma, planes, blue, planes, red, sums.panels, to)


@compiled(**OPTIONS)
def _transform(target: Any, panels: Any) -> None:
    """Make a group's planes coefficients."""
    for component in range(len(panels)):
        base = target.bases[component]
        squares = 2 if component == 0 else 1
        factors = target.factors[0 if component == 0 else 1]
        for panel in range(panels[component]):
            for below in range(squares):
                at = base + (panel * squares + below) * SQUARE
                to = base + (below * panels[component] + panel) * SQUARE
                to_coefficients(
                    target.planes, at, factors, target.square, target.coefficients, to,
                    target.filled,
                )  # fmt: skip


@compiled(**OPTIONS)
def _say_group(target: Any, panels: Any, group: int, said: Any, block: int, token: int) -> Any:
    """Say a group's blocks in the order of a scan: next block and token."""
    num_rows = min((target.height + 15) // 16 - _GROUP_MCUS * group, _GROUP_MCUS)
    for row in range(num_rows):
        for mcu in range((target.width + 15) // 16):
            for i in range(4 if len(panels) == 1 else 6):
                component = max(0, i - 3)
                down = 2 * row + (i >> 1) if i < 4 else row
                across = 2 * mcu + (i & 1) if i < 4 else mcu
                at = target.bases[component] + (down >> 2) * panels[component] * SQUARE
                at += across * BLOCK + (down & 3) * 8
                bits = zigzag_bits(target.filled, at // LANES, (down & 3) * 8)
                token = say_block(
                    target.coefficients, at, PLACES, bits, component == 0, said, block, token
                )
                block += 1
    return block, token


@compiled(**OPTIONS)
def _finish_group(
    group: int, axes: Any, ring: Any, target: Any, said: Any, sums: Any, block: int, token: int
) -> Any:
    """Make a group, whose rows are in the ring, tokens: next block and token."""
    _resize_down(ring, axes, group, target)
    _sum_group(target, group, sums)
    _transform(target, ring.panels)
    return _say_group(target, ring.panels, group, said, block, token)


@compiled(**OPTIONS)
def _start(ring: Any, said: Any, sums: Any) -> None:
    ring.first[:] = 0
    ring.filled[:] = 0
    said.frequencies[:] = 0
    sums.panels[:] = 0
    sums.squares[:] = 0


@compiled(**OPTIONS)
def resize_scan(
    data: Any,
    scan: Any,
    codes: Any,
    blocks: Any,
    axes: Any,
    ring: Any,
    target: Any,
    said: Any,
    sums: Any,
) -> Any:
    """Resize the image of a scan to tokens, and sum up its pixels: how many; -1 if it is damaged."""
    position = start_scan(data, scan)
    if position[1] < 0:
        return -1
    _start(ring, said, sums)
    num_strips = (scan.num_rows + MCU_ROWS - 1) // MCU_ROWS
    strip = np.int64(0)
    block = np.int64(0)
    token = np.int64(0)
    for group in range(len(axes.needs)):
        _make_room(ring, axes.needs[group])
        while not _is_filled(ring, axes.needs[group]) and strip < num_strips:
            blocks.coefs[:] = 0
            position, read = read_strip(scan, position, strip, codes, blocks, None, 0)
            if read < 0:
                return -1
            _append_strip(blocks.coefs, scan, axes, ring, target.resized)
            strip += 1
        block, token = _finish_group(group, axes, ring, target, said, sums, block, token)
    while strip < num_strips:  # what no pixel needs has to be whole, too
        position, read = read_strip(scan, position, strip, codes, blocks, None, 0)
        if read < 0:
            return -1
        strip += 1
    add_up(sums, target.width)
    return token if is_at_end(scan, position) else -1


@compiled(**OPTIONS)
def resize_pixels(
    pixels: Any, strip: Any, axes: Any, ring: Any, target: Any, said: Any, sums: Any
) -> Any:
    """Resize RGB pixels uint8 [height, width, 3] to tokens, and sum up the result: how many."""
    _start(ring, said, sums)
    block = np.int64(0)
    token = np.int64(0)
    row = np.int64(0)
    for group in range(len(axes.needs)):
        _make_room(ring, axes.needs[group])
        while not _is_filled(ring, axes.needs[group]):
            _append_pixels(pixels, row, strip, axes, ring, target.resized)
            row += LANES
        block, token = _finish_group(group, axes, ring, target, said, sums, block, token)
    add_up(sums, target.width)
    return token
