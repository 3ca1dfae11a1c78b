"""Encode a photograph at another size as a tiled 4:2:0 JPEG, from a JPEG's coefficients or pixels."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from preprocess.jpeg.forward import quantisation_payload, quantisers, reciprocals
from preprocess.jpeg.jpeg_scan import Opened, check_colours, is_usual, open_scan, tokens_for
from preprocess.jpeg.lanczos import axis_weights
from preprocess.jpeg.pixel_sums import SQUARE, Sums, sums_for
from preprocess.jpeg.resizing import (
    GROUP_ROWS,
    Axes,
    SourceRows,
    Target,
    resize_pixels,
    resize_scan,
)
from preprocess.jpeg.scan_reader import Tokens
from preprocess.jpeg.scratch import KeptArrays
from preprocess.jpeg.tile_file import Tiled, tile_file
from shards.scans.headers import Component, Headers
from shards.tiles.vectors import LANES

_SCRATCH = KeptArrays()
_MCU = 16  # pixels of 4:2:0
_KEPT = 64  # sizes


@dataclass(frozen=True)
class Output:
    """How a JPEG is written: at what size and quality, in tiles of how many MCUs."""

    width: int
    height: int
    quality: int
    interval_of: Callable[[int, int], int]


def resize_jpeg(opened: Opened, output: Output) -> Tiled | None:
    """Encode a JPEG's image at another size by Pillow's LANCZOS filter; None where not possible.

    That is where it is damaged, not of one sequential scan, or neither grey nor YCbCr with chroma
    sampled as usual. Its EXIF orientation is not looked at.
    """
    headers = opened.headers
    try:
        check_colours(headers)
        if not opened.is_one_scan or not is_usual(headers):
            return None
        scan, codes, blocks = open_scan(opened, _SCRATCH)
    except (IndexError, struct.error, ValueError):
        return None
    verticals = tuple(scan.factors[:, 1].tolist())
    size = (headers.width, headers.height)
    halved = (int(scan.factors[0, 0]) == 2, verticals[0] == 2)
    axes, capacities = _plan(size, (output.width, output.height), halved, verticals)
    ring, target, said, sums = _room(output, capacities)
    file = np.frombuffer(opened.data, np.uint8)
    if resize_scan(file, scan, codes, blocks, axes, ring, target, said, sums) < 0:
        return None
    return _file(output, len(verticals) == 1, said, sums)


def encode_rgb(pixels: np.ndarray, output: Output) -> Tiled:
    """Resize pixels uint8 [height, width, 3] RGB by Pillow's LANCZOS filter and encode them."""
    height, width = pixels.shape[:2]
    axes, capacities = _plan(
        (width, height), (output.width, output.height), (False, False), (1, 1, 1)
    )
    ring, target, said, sums = _room(output, capacities)
    strip = _SCRATCH.array("strip", 3 * width * LANES, np.float32)
    resize_pixels(np.ascontiguousarray(pixels), strip, axes, ring, target, said, sums)
    return _file(output, False, said, sums)


@lru_cache(_KEPT)
def _plan(
    size: tuple[int, int],
    packed: tuple[int, int],
    halved: tuple[bool, bool],
    verticals: tuple[int, ...],
) -> tuple[Axes, tuple[int, ...]]:
    """Make the filters from one size to another, and count the rows the ring has to hold.

    `halved` says along which axes chroma has half of the samples; `verticals` are the components'
    vertical sampling.
    """
    across = axis_weights(size[0], packed[0], halved[0])
    down = axis_weights(size[1], packed[1], halved[1])
    needs = []
    capacities = []
    for component in range(len(verticals)):
        spans = down[component > 0].spans
        groups = spans.reshape(-1, LANES if component else GROUP_ROWS, 2)
        needs.append(np.stack([groups[..., 0].min(1), groups.sum(2).max(1)], 1))
    ends = [need[:, 1] // -(LANES * v) for need, v in zip(needs, verticals, strict=True)]
    strips = -np.min(ends, 0)  # read by the end of each group
    for need, vertical in zip(needs, verticals, strict=True):
        capacities.append(int((strips * LANES * vertical - need[:, 0]).max()))
    return Axes(*across, *down, np.stack(needs, 1)), tuple(capacities)


def _panels(width: int, component: int) -> int:
    """Count the panels of a component's MCUs."""
    padded = -(-width // _MCU) * _MCU
    return -(-(padded // 2 if component else padded) // LANES)


@lru_cache(_KEPT)
def _layout(width: int, capacities: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Say where the components of a ring of `capacities` rows are, and those of a group of rows.

    int64 [components] of the ring: starts, floats of a panel, panels; of the group: starts. Then
    the floats of each: int64 [2].
    """
    panels = np.array([_panels(width, component) for component in range(len(capacities))])
    strides = np.array(capacities) * LANES
    ends = np.cumsum(panels * strides)
    sizes = panels * SQUARE
    sizes[0] *= 2
    group_ends = np.cumsum(sizes)
    floats = np.array([ends[-1], group_ends[-1]])
    return ends - panels * strides, strides, panels, group_ends - sizes, floats


def _room(output: Output, capacities: tuple[int, ...]) -> tuple[SourceRows, Target, Tokens, Sums]:
    """Make a ring of `capacities` rows of each component, and room for the result."""
    key = (output.width, output.height, output.quality, capacities)
    return _SCRATCH.group(key, partial(_make_room, output, capacities))


def _make_room(
    output: Output, capacities: tuple[int, ...]
) -> tuple[SourceRows, Target, Tokens, Sums]:
    starts, strides, panels, bases, floats = _layout(output.width, capacities)
    ring = SourceRows(
        lines=_SCRATCH.array("lines", int(floats[0]), np.float32),
        bases=starts,
        strides=strides,
        panels=panels,
        first=_SCRATCH.array("first", 3, np.int64),
        filled=_SCRATCH.array("filled", 3, np.int64),
    )
    target = Target(
        width=output.width,
        height=output.height,
        planes=_SCRATCH.array("planes", int(floats[1]), np.float32),
        coefficients=_SCRATCH.array("coefficients", int(floats[1]), np.int16),
        bases=bases,
        factors=_tables(output.quality)[1],
        filled=_SCRATCH.array("filled_lines", int(floats[1]) // LANES, np.uint32),
        square=_SCRATCH.array("square", SQUARE, np.float32),
        resized=_SCRATCH.array("resized", int(panels[0]) * SQUARE, np.float32),
    )
    said = _tokens(output, len(capacities))
    return ring, target, said, sums_for(output.width, _SCRATCH)


@lru_cache(4)
def _tables(quality: int) -> tuple[dict[int, bytes], np.ndarray]:
    """Make the DQT payloads of a quality, and what forward DCT's results are multiplied by."""
    tables = quantisers(quality)
    payloads = {number: quantisation_payload(number, table) for number, table in enumerate(tables)}
    return payloads, np.array([reciprocals(table) for table in tables])


def _tokens(output: Output, num_components: int) -> Tokens:
    num_mcus = -(-output.width // _MCU) * -(-output.height // _MCU)
    num_blocks = num_mcus * (4 if num_components == 1 else 6)
    return tokens_for(num_blocks, 64 * num_blocks, _SCRATCH)


def _file(output: Output, grey: bool, said: Tokens, sums: Sums) -> Tiled:
    """Write what blocks say; a grey image gets two planes of empty blocks."""
    components = np.array([0, 0, 0, 0] if grey else [0, 0, 0, 0, 1, 2])
    across = -(-output.width // _MCU)
    rows = -(-output.height // _MCU)
    layout = [Component(1, 2, 2, 0), Component(2, 1, 1, 1), Component(3, 1, 1, 1)]
    headers = Headers(output.width, output.height, layout, _tables(output.quality)[0])
    interval = output.interval_of(across, rows)
    file = tile_file(headers, said, (components, across * rows), interval, grey, _SCRATCH)
    return Tiled(file, output.width, output.height, tuple(sums.totals[:6].tolist()))
