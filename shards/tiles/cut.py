"""Cut the tiles that a crop needs out of a JPEG, without decoding: compiled, without the GIL,
inside its bounds.

A tile is a restart segment: some MCUs of one MCU row between two RST markers. Its bits depend on
nothing outside it, so a rectangle of tiles, with the frame size patched and the markers renumbered,
is a small valid JPEG of its own (ITU-T T.81, sections B.2 and E.1.4). Where the tiles are is listed
in a segment of the file that the packer writes; nothing is searched for.
"""

from typing import Any

import numpy as np

from shards.disk.format import TILES_MARKER, TILES_NAME
from shards.host.compiled import compiled

WHOLE = 0  # decode the file as it is: nothing to cut, or not a kind that can be cut
MISMATCH = -1  # the frame header is unreadable or tells another size than the index

_SOI = 0xD8
_EOI = 0xD9
_SOS = 0xDA
_DRI = 0xDD
# pixels: libjpeg smooths the chroma of anything wider, repeats that of an image this narrow
NARROW = 4
_TILES_NAME = np.frombuffer(TILES_NAME, np.uint8)


@compiled(nogil=True, inline="always")
def _u16(data: np.ndarray, at: int) -> Any:
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@compiled(nogil=True)
def read_headers(
    data: np.ndarray, width: int, height: int
) -> tuple[int, int, int, int, int, int, int, int]:
    """Read the headers: (status, scan start, SOF position, MCU width, MCU height, restart interval,
    list, listed).

    `list` is the offset of the lengths of the `listed` tiles. Status is 1 for a baseline file of
    one scan, WHOLE for another readable frame of the expected size, or MISMATCH.
    """
    size = len(data)
    at = 2
    sof = -1
    mcu_w = 0
    mcu_h = 0
    interval = 0
    components = 0
    baseline = False
    lengths = 0
    listed = 0
    if size < 4 or data[0] != 0xFF or data[1] != _SOI:
        return MISMATCH, 0, 0, 0, 0, 0, 0, 0
    while at + 4 <= size:
        if data[at] != 0xFF:
            return MISMATCH, 0, 0, 0, 0, 0, 0, 0
        marker: Any = np.int64(data[at + 1])
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = _u16(data, at + 2)
        end = at + 2 + length
        if length < 2 or end > size:
            return MISMATCH, 0, 0, 0, 0, 0, 0, 0
        if marker == _DRI and length == 4:
            interval = _u16(data, at + 4)
        elif marker == TILES_MARKER and length >= 2 + len(_TILES_NAME):
            if (data[at + 4 : at + 4 + len(_TILES_NAME)] == _TILES_NAME).all():
                lengths = at + 4 + len(_TILES_NAME)
                listed = (end - lengths) // 2
        elif 0xC0 <= marker <= 0xCF and marker != 0xC4 and marker != 0xC8 and marker != 0xCC:
            components = int(np.int64(data[at + 9])) if length >= 8 else 0
            if sof >= 0 or components == 0 or length != 8 + 3 * components:
                return MISMATCH, 0, 0, 0, 0, 0, 0, 0
            if _u16(data, at + 5) != height or _u16(data, at + 7) != width:
                return MISMATCH, 0, 0, 0, 0, 0, 0, 0
            sof = at
            baseline = bool(marker <= 0xC1 and data[at + 4] == 8)
            for component in range(components):
                sampling: Any = np.int64(data[at + 11 + 3 * component])
                mcu_w = max(mcu_w, 8 * (sampling >> 4))
                mcu_h = max(mcu_h, 8 * (sampling & 15))
            if components == 1:  # not interleaved: an MCU is one block whatever the factors say
                mcu_w = 8
                mcu_h = 8
        elif marker == _SOS:
            if sof < 0:
                return MISMATCH, 0, 0, 0, 0, 0, 0, 0
            one_scan = length >= 3 and np.int64(data[at + 4]) == components
            status = 1 if baseline and one_scan and mcu_w > 0 and mcu_h > 0 else WHOLE
            return status, end, sof, mcu_w, mcu_h, interval, lengths, listed
        at = end
    return MISMATCH, 0, 0, 0, 0, 0, 0, 0


@compiled(nogil=True, inline="always")
def _is_marker(data: np.ndarray, at: int, marker: int) -> bool:
    return at + 1 < len(data) and data[at] == 0xFF and data[at + 1] == marker


@compiled(nogil=True)
def cut_tiles(
    data: np.ndarray, width: int, height: int, x: int, y: int, w: int, h: int, out: np.ndarray
) -> tuple[int, int, int, int, int]:
    """Write to `out` a JPEG of the tiles that box (x, y, w, h) needs: (bytes written, left, top,
    width, height).

    `left` and `top` are where the box starts inside the small image of `width` x `height`. One
    pixel of margin makes chroma upsampling at the box's edge see the neighbours it sees in the
    whole image. Instead of a byte count there is WHOLE or MISMATCH where nothing was written.
    `width` and `height` given are the index's; `out` needs len(data) + 2.
    """
    status, start, sof, mcu_w, mcu_h, interval, lengths, listed = read_headers(data, width, height)
    if status != 1:
        return status, 0, 0, 0, 0
    mcus = (width + mcu_w - 1) // mcu_w
    if interval == 0 or mcus % interval != 0 or len(out) < len(data) + 2:
        return WHOLE, 0, 0, 0, 0
    tile_w = interval * mcu_w
    columns = mcus // interval
    rows = (height + mcu_h - 1) // mcu_h
    if listed != rows * columns:
        return WHOLE, 0, 0, 0, 0
    column0 = max(x - 1, 0) // tile_w
    row0 = max(y - 1, 0) // mcu_h
    column1 = min((x + w + 1 + tile_w - 1) // tile_w, columns)
    if column0 > 0 and width - column0 * tile_w <= NARROW:
        column0 -= 1
    row1 = min((y + h + 1 + mcu_h - 1) // mcu_h, rows)
    if column0 == 0 and row0 == 0 and column1 == columns and row1 == rows:
        return WHOLE, 0, 0, 0, 0
    small_w = min(column1 * tile_w, width) - column0 * tile_w
    small_h = min(row1 * mcu_h, height) - row0 * mcu_h

    out[:start] = data[:start]
    out[sof + 5] = small_h >> 8
    out[sof + 6] = small_h & 255
    out[sof + 7] = small_w >> 8
    out[sof + 8] = small_w & 255
    written = start
    at = start
    copied = 0
    tile = 0
    for row in range(row0, row1):
        while tile < row * columns + column0:
            at += _u16(data, lengths + 2 * tile) + 2
            tile += 1
        if tile > 0 and not _is_marker(data, at - 2, 0xD0 + (tile - 1) % 8):
            return WHOLE, 0, 0, 0, 0
        while tile < row * columns + column1:
            end = at + _u16(data, lengths + 2 * tile)
            if not _is_marker(data, end, _EOI if tile == rows * columns - 1 else 0xD0 + tile % 8):
                return WHOLE, 0, 0, 0, 0
            out[written : written + end - at] = data[at:end]
            written += end - at
            out[written] = 0xFF
            out[written + 1] = 0xD0 + copied % 8
            written += 2
            copied += 1
            at = end + 2
            tile += 1
    out[written - 1] = _EOI
    return written, x - column0 * tile_w, y - row0 * mcu_h, small_w, small_h
