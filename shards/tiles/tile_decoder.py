"""Decode a box of a tiled JPEG straight to a square of training pixels: compiled, without the GIL,
inside its bounds.

RGB or grey. Only tiles that the box needs are decoded. Two MCU rows, a strip, go through Huffman
decoding, inverse DCT and resizing across while they are in the cache; resizing down and the
conversion to RGB are done at the size of the output.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from shards.disk.format import MAX_TILES
from shards.host.compiled import compiled
from shards.tiles.compile_options import OPTIONS
from shards.tiles.cut import NARROW
from shards.tiles.header import (
    INTERVAL,
    LIST,
    LISTED,
    LOOK,
    LUMA_H,
    LUMA_V,
    MAX_BLOCKS,
    SCAN,
    read_header,
    u16,
)
from shards.tiles.huffman import SLACK, decode_pair, unstuff
from shards.tiles.transform import (
    ZIGZAG,
    dct_scales,
    halved_weights,
    inverse_dct,
    max_taps,
    resize,
    to_grey,
    triangle_weights,
    turn,
    weigh,
    ycc_to_rgb,
)
from shards.tiles.vectors import LANES

_BLOCK = 8 * LANES  # floats from one block of a strip to the next
_SQUARE = LANES * LANES


class Scratch(NamedTuple):
    """What decoding writes to. Weights and spans: of luma and of halved chroma, across, then down."""

    frame: np.ndarray  # these seven: header.read_header
    components: np.ndarray
    raw_quants: np.ndarray
    quants: np.ndarray
    lookups: np.ndarray
    longest: np.ndarray
    symbols: np.ndarray
    offsets: np.ndarray  # int64 [tiles + 1]: where tiles start; then the end of the file
    layout: np.ndarray  # these five: entropy.decode_pair
    bits: np.ndarray
    ends: np.ndarray
    starts: np.ndarray
    dc: np.ndarray
    # float32 [blocks, 8 frequencies across, LANES]: luma, then chroma, of one strip
    coefs: np.ndarray
    resized: np.ndarray  # float32 [padded size, LANES]: a plane of the strip, resized across
    # float32 [panels, lines of Y, Cb and Cr, LANES]: panels of LANES output columns
    lines: np.ndarray
    planes: np.ndarray  # float32 [3, LANES]
    weights: np.ndarray  # float32 [4, size, taps]
    spans: np.ndarray  # int64 [4, size, 2]


@compiled(**OPTIONS)
def _lay_out(luma_h: int, luma_v: int, num_components: int, layout: Any) -> int:
    """Say where each block of an MCU goes in a strip (see entropy.decode_pair): the number of
    blocks.
    """
    number = 0
    for row in range(luma_v):
        for column in range(luma_h):
            layout[number, 0] = 0
            layout[number, 1] = 0
            layout[number, 2] = column * _BLOCK + row * 8
            layout[number, 3] = luma_h * _BLOCK
            number += 1
    for component in range(1, num_components):
        layout[number, 0] = component
        layout[number, 1] = 1
        layout[number, 2] = (component - 1) * 16
        layout[number, 3] = _BLOCK
        number += 1
    return number


@compiled(**OPTIONS)
def _fetch(data: Any, offsets: Any, tile: int, bits: Any, at: int) -> int:
    """Unstuff a tile's bytes into bits[at:]: their end, or -1 if its bounds or the markers around
    it are not right.
    """
    start = offsets[tile]
    end = offsets[tile + 1] - 2
    if start < 0 or end < start or end + 2 > len(data) or at + end - start + SLACK > len(bits):
        return -1
    if data[end] != 0xFF or data[end + 1] != (
        0xD9 if tile == len(offsets) - 2 else 0xD0 + tile % 8
    ):
        return -1
    if tile > 0 and (
        start < 2 or data[start - 2] != 0xFF or data[start - 1] != 0xD0 + (tile - 1) % 8
    ):
        return -1
    return unstuff(data, start, end, bits, at)


@compiled(**OPTIONS)
def _decode_strip(
    data: Any, offsets: Any, row: int, below: int, columns: int, column0: int, column1: int, luma_v: int,
    luma_h: int, interval: int, chroma_at: int, num_blocks: int, places: Any, s: Any,
) -> bool:  # fmt: skip
    """Decode tiles [column0, column1) of tile rows `row` and `below` into s.coefs; False if one is
    damaged.

    Where there is no row below (it is `row` again), pairs are of neighbours.
    """
    starts = s.starts
    ends = s.ends
    tile_luma = interval * luma_h * _BLOCK
    tile_chroma = interval * _BLOCK
    ends[0] = 0
    for column in range(column0, column1, 1 if below > row else 2):
        tile = row * columns + column
        at = column - column0
        starts[0, 0] = at * tile_luma
        starts[0, 1] = chroma_at + at * tile_chroma
        if below == row and column + 1 < column1:
            other = tile + 1
            starts[1, 0] = starts[0, 0] + tile_luma
            starts[1, 1] = starts[0, 1] + tile_chroma
        else:  # a last tile without a neighbour is decoded twice, the second time to a row that nothing looks at
            other = below * columns + column
            starts[1, 0] = starts[0, 0] + luma_v * 8
            starts[1, 1] = starts[0, 1] + 8
        ends[1] = _fetch(data, offsets, tile, s.bits, 0)
        ends[2] = _fetch(data, offsets, other, s.bits, ends[1]) if ends[1] >= 0 else -1
        if ends[2] < 0 or not decode_pair(
            s.bits, ends, s.lookups, s.longest, s.symbols, s.quants, places, s.layout[:num_blocks],
            interval, s.coefs, starts, s.dc,
        ):  # fmt: skip
            return False
    return True


@compiled(**OPTIONS)
def _to_panels(resized: Any, lane: int, num_lanes: int, lines: Any, to: int, stride: int) -> None:
    """Turn lanes of a resized strip into lines of each panel, the first at lines[to:], and
    transform them down.
    """
    for panel in range(len(resized) // _SQUARE):
        turn(resized, panel * _SQUARE + lane, num_lanes, lines, to + panel * stride)
        inverse_dct(lines, to + panel * stride, num_lanes // 8)


@compiled(**OPTIONS)
def _finish(s: Any, down: int, blue: int, red: int, stride: int, out: Any) -> None:
    """Resize down and convert to RGB: out uint8 [size, 3 * padded size]."""
    for row in range(len(out)):
        first = s.spans[2, row, 0] * LANES
        count = s.spans[2, row, 1]
        weights = s.weights[2, row]
        chroma_first = s.spans[down, row, 0] * LANES
        chroma_count = s.spans[down, row, 1]
        chroma_weights = s.weights[down, row]
        line = out[row]
        for panel in range(len(line) // (3 * LANES)):
            at = panel * stride
            weigh(s.lines, at + first, count, weights, s.planes, 0)
            weigh(s.lines, at + blue + chroma_first, chroma_count, chroma_weights, s.planes, LANES)
            weigh(
                s.lines, at + red + chroma_first, chroma_count, chroma_weights, s.planes, 2 * LANES
            )
            ycc_to_rgb(s.planes, line, panel * 3 * LANES)


@compiled(**OPTIONS)
def _finish_grey(s: Any, stride: int, out: Any) -> None:
    """Resize down: out uint8 [size, padded size]."""
    for row in range(len(out)):
        first = s.spans[2, row, 0] * LANES
        count = s.spans[2, row, 1]
        weights = s.weights[2, row]
        line = out[row]
        for panel in range(len(line) // LANES):
            weigh(s.lines, panel * stride + first, count, weights, s.planes, 0)
            to_grey(s.planes, line, panel * LANES)


@compiled(**OPTIONS)
def _find_tiles(data: Any, frame: Any, num_tiles: int, offsets: Any) -> bool:
    """Add up the listed lengths; False where the list is not of `num_tiles`, or does not fit the
    file.
    """
    if frame[LISTED] != num_tiles or num_tiles >= len(offsets):
        return False
    at = frame[SCAN]
    for tile in range(num_tiles):
        offsets[tile] = at
        at += u16(data, frame[LIST] + 2 * tile) + 2
    offsets[num_tiles] = at
    return at <= len(data)


@compiled(**OPTIONS)
def _decode_crop(
    data: Any, width: int, height: int, num_components: int, box: Any, mirror: bool, out: Any, scales: Any, places: Any,
    s: Any,
) -> bool:  # fmt: skip
    """See TileDecoder.crop_into."""
    if not read_header(
        data, width, height, num_components, s.frame, s.components, s.raw_quants, scales, s.quants, s.lookups,
        s.longest, s.symbols,
    ):  # fmt: skip
        return False
    grey = num_components == 1
    x, y, w, h = box
    interval = s.frame[INTERVAL]
    luma_h = s.frame[LUMA_H]
    luma_v = s.frame[LUMA_V]
    tile_w = interval * 8 * luma_h
    tile_h = 8 * luma_v
    num_mcus = (width + 8 * luma_h - 1) // (8 * luma_h)
    if interval == 0 or num_mcus % interval != 0 or min(width, height) <= NARROW:
        return False
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
        return False
    columns = num_mcus // interval
    rows = (height + tile_h - 1) // tile_h
    if not _find_tiles(data, s.frame, columns * rows, s.offsets):
        return False
    offsets = s.offsets[: columns * rows + 1]
    # A pixel of margin on each side: upsampling chroma looks at neighbours.
    column0 = max(x - 1, 0) // tile_w
    column1 = min((x + w + tile_w) // tile_w, columns)
    row0 = max(y - 1, 0) // tile_h
    row1 = min((y + h + tile_h) // tile_h, rows)

    num_strips = (row1 - row0 + 1) // 2
    num_mcus = (column1 - column0) * interval
    blocks_across = luma_h if grey else luma_h + 1
    chroma_at = num_mcus * luma_h * _BLOCK
    num_coefs = num_mcus * blocks_across * _BLOCK
    luma_lines = num_strips * luma_v * 16
    chroma_lines = 0 if grey else num_strips * 16
    blue = luma_lines * LANES
    red = (luma_lines + chroma_lines) * LANES
    stride = (luma_lines + 2 * chroma_lines) * LANES
    if num_coefs > len(s.coefs) or stride * (len(s.resized) // _SQUARE) > len(s.lines):
        return False

    num_blocks = _lay_out(luma_h, luma_v, num_components, s.layout)
    left = column0 * tile_w
    top = row0 * tile_h
    across = luma_h - 1
    down = 1 + luma_v
    triangle_weights(x, w, mirror, left, s.weights[0], s.spans[0])
    triangle_weights(y, h, False, top, s.weights[2], s.spans[2])
    if luma_h == 2:
        halved_weights(s.weights[0], s.spans[0], left, (width + 1) // 2, s.weights[1], s.spans[1])
    if luma_v == 2:
        halved_weights(s.weights[2], s.spans[2], top, (height + 1) // 2, s.weights[3], s.spans[3])

    for strip in range(num_strips):
        s.coefs[:num_coefs] = 0
        row = row0 + 2 * strip
        if not _decode_strip(
            data, offsets, row, min(row + 1, row1 - 1), columns, column0, column1, luma_v, luma_h, interval,
            chroma_at, num_blocks, places, s,
        ):  # fmt: skip
            return False
        inverse_dct(s.coefs, 0, num_mcus * blocks_across)
        resize(s.coefs, 0, s.weights[0], s.spans[0], s.resized)
        _to_panels(s.resized, 0, luma_v * 16, s.lines, strip * luma_v * 16 * LANES, stride)
        if grey:
            continue
        resize(s.coefs, chroma_at, s.weights[across], s.spans[across], s.resized)
        _to_panels(s.resized, 0, 16, s.lines, blue + strip * 16 * LANES, stride)
        _to_panels(s.resized, 16, 16, s.lines, red + strip * 16 * LANES, stride)
    if grey:
        _finish_grey(s, stride, out)
    else:
        _finish(s, down, blue, red, stride, out)
    return True


class TileDecoder:
    """Decode and resize crops to `size` x `size` with scratch memory of its own: one per thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._padded = -(-size // LANES) * LANES
        self._scales = dct_scales().ravel()[ZIGZAG].astype(np.float32)
        self._places = ((ZIGZAG & 7) * LANES + (ZIGZAG >> 3)).astype(np.uint64)
        self._pixels = np.zeros(size * 3 * self._padded, np.uint8)
        self._room = (1 << 17, 512, 512, 512)
        self._scratch = self._make_scratch(*self._room)

    def _make_scratch(self, num_bytes: int, width: int, box_width: int, box_height: int) -> Scratch:
        taps = max_taps(max(box_width, box_height), self.size)
        # at most two luma blocks across per chroma block, of which there are two
        strip_blocks = 4 * (width // 8 + 2)
        return Scratch(
            frame=np.zeros(6, np.int64),
            components=np.zeros((3, 2), np.int64),
            raw_quants=np.zeros((4, 64), np.float32),
            quants=np.zeros((3, 64), np.float32),
            lookups=np.zeros((4, 1 << LOOK), np.int32),
            longest=np.zeros((4, 17, 2), np.int64),
            symbols=np.zeros((4, 256), np.uint8),
            offsets=np.zeros(MAX_TILES + 1, np.int64),
            layout=np.zeros((MAX_BLOCKS, 4), np.int64),
            bits=np.zeros(2 * num_bytes + SLACK, np.uint8),
            ends=np.zeros(3, np.int64),
            starts=np.zeros((2, 2), np.int64),
            dc=np.zeros((2, 3), np.int64),
            coefs=np.zeros(strip_blocks * _BLOCK, np.float32),
            resized=np.zeros(self._padded * LANES, np.float32),
            lines=np.zeros(3 * (box_height + 80) * self._padded, np.float32),
            planes=np.zeros(3 * LANES, np.float32),
            weights=np.zeros((4, self.size, taps), np.float32),
            spans=np.zeros((4, self.size, 2), np.int64),
        )

    def crop_into(
        self,
        out: np.ndarray,
        data: np.ndarray,
        width: int,
        height: int,
        box: Sequence[int],
        mirror: bool,
    ) -> bool:
        """Decode box (x, y, w, h) of a JPEG `width` x `height` and resize it into `out` uint8
        [size, size, 3 or 1].

        False, with `out` undefined, for a damaged file or one of a kind that the packer does not
        write, or of other colours than RGB or grey, as the shape of `out` says: ask the ordinary
        decoder.
        """
        room = (len(data), width, box[2], box[3])
        if (
            room[0] > self._room[0]
            or room[1] > self._room[1]
            or room[2] > self._room[2]
            or room[3] > self._room[3]
        ):
            self._room = tuple(max(pair) for pair in zip(room, self._room, strict=True))  # type: ignore[assignment]
            self._scratch = self._make_scratch(*self._room)
        direct = self._padded == self.size and out.flags.c_contiguous
        channels = out.shape[2]
        line = channels * self._padded
        pixels = (
            out.reshape(self.size, -1)
            if direct
            else self._pixels[: self.size * line].reshape(self.size, line)
        )
        corners = (int(box[0]), int(box[1]), int(box[2]), int(box[3]))
        done = _decode_crop(
            data,
            width,
            height,
            channels,
            corners,
            mirror,
            pixels,
            self._scales,
            self._places,
            self._scratch,
        )
        if not direct:
            out[:] = pixels[:, : channels * self.size].reshape(out.shape)
        return bool(done)
