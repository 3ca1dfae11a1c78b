"""Operations on pixels on a CPU, sample by sample in one compiled call: torchvision's, in whole
numbers.

An image is uint8 [H, W, C] and is changed in place. Of C >= 3 channels the first three are red,
green and blue; operations that mix colours leave further channels as they are, and contrast takes
each further one as a grey image. Fewer channels are grey images. shards.augment.tensor_ops gives
the same bits on a device.
"""

from typing import Any

import numpy as np

from shards.augment.sample_changes import (
    AUTOCONTRAST,
    BRIGHTNESS,
    CONTRAST,
    EQUALIZE,
    HUE,
    LAST_TABLE,
    MAP_BITS,
    NOTHING,
    ONE,
    POSTERIZE,
    SATURATION,
    SHARPNESS,
    UNIT,
)
from shards.host.compiled import compiled

GREY = (2989, 5870, 1140)  # torchvision's weights, of 10000


@compiled(nogil=True, inline="always")
def _clipped(value: int) -> int:
    return min(255, max(0, value))


@compiled(nogil=True, inline="always")
def _blended(value: int, other: int, excess: int) -> int:
    """Move a value away from another by a factor of 1 + excess / 2^16, cut as torchvision cuts."""
    return _clipped(value + (((value - other) * excess) >> 16))


@compiled(nogil=True, inline="always")
def _colours(image: np.ndarray, y: int, x: int) -> tuple[Any, Any, Any]:
    """Return a pixel's red, green and blue as integers of 64 bits: numba's int() keeps 8."""
    return np.int64(image[y, x, 0]), np.int64(image[y, x, 1]), np.int64(image[y, x, 2])


@compiled(nogil=True, inline="always")
def _grey(red: int, green: int, blue: int) -> int:
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue) // 10000


@compiled(nogil=True)
def _plain_table(table: np.ndarray, code: int, amount: int) -> None:
    """Fill in what each of 256 levels becomes, by an operation that need not see the pixels."""
    for level in range(256):
        if code == BRIGHTNESS:
            table[level] = _blended(level, 0, amount)
        elif code == POSTERIZE:
            table[level] = level & amount
        else:
            table[level] = 255 - level if 2 * level >= amount else level


@compiled(nogil=True)
def plain_tables(tables: np.ndarray, codes: np.ndarray, amounts: np.ndarray) -> None:
    """Fill in tables uint8 [P, 256] of the first P codes, whose operations need no pixels."""
    for number in range(len(tables)):
        _plain_table(tables[number], codes[number], amounts[number])


@compiled(nogil=True)
def _contrast_tables(tables: np.ndarray, image: np.ndarray, excess: int) -> None:
    height, width, channels = image.shape
    num = height * width
    colours = 3 if channels >= 3 else 0
    sums = np.zeros(channels, np.int64)
    for y in range(height):
        for x in range(width):
            if colours:
                red, green, blue = _colours(image, y, x)
                sums[0] += _grey(red, green, blue)
            for c in range(colours, channels):
                sums[c] += image[y, x, c]
    for c in range(channels):
        total = sums[0] if c < colours else sums[c]
        for level in range(256):
            tables[c, level] = _clipped(
                level + ((level * num - total) * excess) // (np.int64(ONE) * num)
            )


@compiled(nogil=True)
def _histogram(counts: np.ndarray, image: np.ndarray) -> None:
    height, width, channels = image.shape
    counts[:] = 0
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                counts[c, image[y, x, c]] += 1


@compiled(nogil=True)
def _autocontrast_tables(tables: np.ndarray, counts: np.ndarray) -> None:
    for c in range(len(counts)):
        low = 0
        while counts[c, low] == 0:
            low += 1
        high = 255
        while counts[c, high] == 0:
            high -= 1
        for level in range(256):
            tables[c, level] = (
                _clipped((level - low) * 255 // (high - low)) if high > low else level
            )


@compiled(nogil=True)
def _equalize_tables(tables: np.ndarray, counts: np.ndarray) -> None:
    for c in range(len(counts)):
        num = counts[c].sum()
        high = 255
        while counts[c, high] == 0:
            high -= 1
        step = (num - counts[c, high]) // 255
        before = 0
        for level in range(256):
            tables[c, level] = min(255, (before + step // 2) // step) if step else level
            before += counts[c, level]


@compiled(nogil=True)
def _look_up(image: np.ndarray, tables: np.ndarray) -> None:
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                image[y, x, c] = tables[c, image[y, x, c]]


@compiled(nogil=True)
def _saturate(image: np.ndarray, excess: int) -> None:
    height, width, channels = image.shape
    if channels < 3:
        return
    for y in range(height):
        for x in range(width):
            red, green, blue = _colours(image, y, x)
            grey = _grey(red, green, blue)
            image[y, x, 0] = _blended(red, grey, excess)
            image[y, x, 1] = _blended(green, grey, excess)
            image[y, x, 2] = _blended(blue, grey, excess)


@compiled(nogil=True)
def _sharpen(image: np.ndarray, before: np.ndarray, excess: int) -> None:
    """Blend with the mean of the 3 x 3 neighbours, of which the middle counts five times."""
    height, width, channels = image.shape
    before[:] = image
    row = width * channels
    source = before.reshape(-1)
    target = image.reshape(-1)
    for y in range(1, height - 1):
        for at in range(y * row + channels, (y + 1) * row - channels):
            total = 4 * np.int64(source[at])
            for line in (at - row, at, at + row):
                total += (
                    np.int64(source[line - channels])
                    + np.int64(source[line])
                    + np.int64(source[line + channels])
                )
            target[at] = _blended(np.int64(source[at]), (total + 6) // 13, excess)


@compiled(nogil=True)
def _turn_hues(image: np.ndarray, turn: int) -> None:
    """Turn hues by `turn` / (6 * 2^16) of a circle: each value and saturation stays."""
    height, width, channels = image.shape
    if channels < 3:
        return
    for y in range(height):
        for x in range(width):
            red, green, blue = _colours(image, y, x)
            most = max(red, green, blue)
            chroma = most - min(red, green, blue)
            if chroma == 0:
                continue
            if most == red:
                hue = green - blue
            elif most == green:
                hue = 2 * chroma + blue - red
            else:
                hue = 4 * chroma + red - green
            turned = (hue << 16) + turn * chroma
            for c in range(3):
                place = (((5 - 2 * c) * chroma << 16) + turned) % (6 * chroma << 16)
                less = min(max(min(place, (4 * chroma << 16) - place), 0), chroma << 16)
                value = ((most << 16) - less) >> 4
                # torchvision multiplies by 255.999 / 255 before it cuts
                image[y, x, c] = (value + (value * 257 >> 16)) >> 12


@compiled(nogil=True)
def _move(image: np.ndarray, before: np.ndarray, places: np.ndarray) -> None:
    height, width, channels = image.shape
    before[:] = image
    half = UNIT // 2
    for y in range(height):
        across = places[1] * y + places[2] + half
        down = places[4] * y + places[5] + half
        for x in range(width):
            column = (places[0] * x + across) >> MAP_BITS
            row = (places[3] * x + down) >> MAP_BITS
            if 0 <= column < width and 0 <= row < height:
                for c in range(channels):
                    image[y, x, c] = before[row, column, c]
            else:
                for c in range(channels):
                    image[y, x, c] = 0


@compiled(nogil=True, inline="always")
def _moves(places: np.ndarray) -> bool:
    return (
        places[0] != UNIT
        or places[1] != 0
        or places[2] != 0
        or places[3] != 0
        or places[4] != UNIT
        or places[5] != 0
    )


@compiled(nogil=True)
def change_pixels(
    images: np.ndarray, maps: np.ndarray, codes: np.ndarray, amounts: np.ndarray
) -> None:
    """Move the pixels of images uint8 [B, H, W, C] and change their colours, in place, as
    shards.augment.sample_changes.Changes says.
    """
    channels = images.shape[3]
    before = np.empty_like(images[0])
    tables = np.empty((channels, 256), np.uint8)
    counts = np.empty((channels, 256), np.int64)
    for i in range(len(images)):
        image = images[i]
        if len(maps) and _moves(maps[i]):
            _move(image, before, maps[i])
        for turn in range(len(codes)):
            code = codes[turn, i]
            amount = amounts[turn, i]
            if code == NOTHING:
                continue
            if code == SATURATION:
                _saturate(image, amount)
            elif code == HUE:
                _turn_hues(image, amount)
            elif code == SHARPNESS:
                _sharpen(image, before, amount)
            elif code == CONTRAST:
                _contrast_tables(tables, image, amount)
            elif code == AUTOCONTRAST:
                _histogram(counts, image)
                _autocontrast_tables(tables, counts)
            elif code == EQUALIZE:
                _histogram(counts, image)
                _equalize_tables(tables, counts)
            else:
                _plain_table(tables[0], code, amount)
                for c in range(1, channels):
                    tables[c] = tables[0]
            if code <= LAST_TABLE:
                _look_up(image, tables)
