"""From the bytes of an image member to the pixels of a crop."""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image

from shards.decode.png import decode_png, is_png
from shards.disk.format import MAX_PIXELS
from shards.errors import SampleError
from shards.scans.damage import decode_stored
from shards.tiles.cut import MISMATCH, WHOLE, cut_tiles
from shards.tiles.tile_decoder import TileDecoder

# Shrink factors. Up to the first a linear filter alone is nearly as near to an antialiased one as
# with a blur, and much cheaper; up to the second a short blur before it is nearer than OpenCV's
# area filter, at a third of its cost; above, area's cost per pixel is the lower one.
LINEAR_UP_TO = 1.5
BLUR_UP_TO = 3.0
MOST_CHANNELS = 4  # that OpenCV's resizing takes at once


class Decoder:
    """Decode boxes of JPEGs and PNGs, RGB or grey, with scratch memory of its own: one per thread."""

    def __init__(self) -> None:
        self._bytes = np.empty(1 << 17, np.uint8)
        self._pixels = np.empty(1 << 20, np.uint8)
        self._tiles: TileDecoder | None = None
        self._parts: list[np.ndarray] = []

    def crop_bands_into(
        self,
        out: np.ndarray,
        members: Sequence[np.ndarray],
        width: int,
        height: int,
        box: Sequence[int],
        mirror: bool,
    ) -> None:
        """Cut the same box out of all members of an image, as `crop_into` does: `out` uint8 [size,
        size, C].

        The first member has red, green and blue, each further one a band.
        """
        if len(members) == 1:
            self.crop_into(out, members[0], width, height, box, mirror)
            return
        if [part.shape[0] for part in self._parts] != [len(out)] * len(members):
            self._parts = [
                np.empty((*out.shape[:2], channels), np.uint8)
                for channels in (3, *(1,) * len(members[1:]))
            ]
        for part, data in zip(self._parts, members, strict=True):
            if not self.crop_tiles_into(part, data, width, height, box, mirror):
                resize_into(out, self.bands(members, width, height, box), mirror)
                return
        cv2.mixChannels(self._parts, [out], _in_order(out.shape[2]))

    def bands(
        self, members: Sequence[np.ndarray], width: int, height: int, box: Sequence[int]
    ) -> np.ndarray:
        """Decode a box of all members of an image, as `box` does: uint8 [h, w, C], maybe scratch
        memory.
        """
        pixels = self.box(members[0], width, height, box)
        if len(members) == 1:
            return pixels
        pixels = pixels.copy()
        further = [self.box(data, width, height, box, 1).copy() for data in members[1:]]
        out = np.empty((*pixels.shape[:2], 3 + len(further)), np.uint8)
        cv2.mixChannels([pixels, *further], [out], _in_order(out.shape[2]))
        return out

    def crop_into(
        self,
        out: np.ndarray,
        data: np.ndarray,
        width: int,
        height: int,
        box: Sequence[int],
        mirror: bool,
    ) -> None:
        """Decode a box and resize it into `out` uint8 [size, size, 3 or 1], mirrored if asked: for
        training.

        A file that the tile decoder refuses, damaged or not of the packer's making, takes the way
        of evaluation: cut, libjpeg, OpenCV. Raises SampleError as `box` does.
        """
        if not self.crop_tiles_into(out, data, width, height, box, mirror):
            resize_into(out, self.box(data, width, height, box, out.shape[2]), mirror)

    def crop_tiles_into(
        self,
        out: np.ndarray,
        data: np.ndarray,
        width: int,
        height: int,
        box: Sequence[int],
        mirror: bool,
    ) -> bool:
        """Do so with the tile decoder, or tell that it refuses the file."""
        if self._tiles is None or self._tiles.size != len(out):
            self._tiles = TileDecoder(len(out))
        return self._tiles.crop_into(out, data, width, height, box, mirror)

    def box(
        self, data: np.ndarray, width: int, height: int, box: Sequence[int], channels: int = 3
    ) -> np.ndarray:
        """Decode box (x, y, w, h) of an image `width` x `height`: uint8 [h, w, 3] RGB, or [h, w, 1]
        grey.

        The array is a view of scratch memory, good until the next call. Raises SampleError without
        shard or key, which the caller knows.
        """
        if width * height > MAX_PIXELS:
            raise SampleError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
        x, y, w, h = box
        small, left, top, small_w, small_h = self.cut(data, width, height, x, y, w, h)
        pixels = self.decode(small, small_w, small_h, channels)
        return pixels[y - top : y - top + h, x - left : x - left + w]

    def cut(
        self, data: np.ndarray, width: int, height: int, x: int, y: int, w: int, h: int
    ) -> tuple[np.ndarray, int, int, int, int]:
        """Cut out the tiles that a box needs: (image, left, top, width, height), their positions
        and sizes.

        The image is scratch memory, or `data` itself where nothing can be cut off, as of a PNG.
        """
        if is_png(data):
            return data, 0, 0, width, height
        if len(self._bytes) < len(data) + 2:
            self._bytes = np.empty(2 * len(data), np.uint8)
        size, left, top, small_w, small_h = cut_tiles(data, width, height, x, y, w, h, self._bytes)
        if size == MISMATCH:
            raise SampleError(f"not a JPEG of the {width} x {height} pixels that the index tells")
        if size == WHOLE:
            return data, 0, 0, width, height
        return self._bytes[:size], x - left, y - top, small_w, small_h

    def decode(self, data: np.ndarray, width: int, height: int, channels: int) -> np.ndarray:
        """Decode an image of a known size: uint8 [height, width, 3] RGB or [height, width, 1],
        maybe scratch.
        """
        if is_png(data):
            return decode_png(data, width, height, channels)
        if len(self._pixels) < channels * width * height:
            self._pixels = np.empty(channels * width * height, np.uint8)
        try:
            pixels = decode_stored(data, "RGB" if channels == 3 else "GRAY", buffer=self._pixels)
        except ValueError as error:
            raise SampleError(f"damaged JPEG ({error})") from error
        if pixels.shape != (height, width, channels):
            raise SampleError(f"decodes to {pixels.shape}, not {height} x {width} x {channels}")
        return pixels


def _in_order(channels: int) -> list[int]:
    """Tell cv2.mixChannels, four times as fast as numpy's assignment, to put channels one after the
    other.
    """
    return [number for channel in range(channels) for number in (channel, channel)]


@cache
def _blur(shrink: float) -> np.ndarray:
    """Make the kernel that turns linear interpolation into an antialiased triangle filter, nearly.

    A triangle as wide as the shrink factor s has variance s^2 / 6, that of linear interpolation is
    1 / 6: the blur has the difference. Three taps reach a variance of 2/3, then a Gaussian takes
    over.
    """
    variance = max(0.0, (shrink * shrink - 1) / 6)
    if variance < 0.63:
        kernel = np.array([variance / 2, 1 - variance, variance / 2])
    else:
        taps = np.arange(-math.ceil(shrink), math.ceil(shrink) + 1)
        kernel = np.exp(-(taps**2) / (2 * variance))
    return (kernel / kernel.sum()).astype(np.float32)


def resize_into(out: np.ndarray, pixels: np.ndarray, mirror: bool) -> None:
    """Resize pixels uint8 [h, w, C] to the shape of `out` uint8 [H, W, C], mirrored if asked: for
    training.
    """
    if pixels.shape[2] > MOST_CHANNELS:
        for first in range(0, pixels.shape[2], MOST_CHANNELS):
            some = pixels[..., first : first + MOST_CHANNELS].copy()
            part = np.empty((*out.shape[:2], some.shape[2]), np.uint8)
            resize_into(part, some, mirror)
            out[..., first : first + MOST_CHANNELS] = part
        return
    height, width = pixels.shape[:2]
    out_height, out_width = out.shape[:2]
    filtering = cv2.INTER_LINEAR
    shrink = max(height / out_height, width / out_width)
    if shrink > BLUR_UP_TO:
        filtering = cv2.INTER_AREA
    elif shrink > LINEAR_UP_TO:
        down = _blur(round(height / out_height, 2))
        across = _blur(round(width / out_width, 2))
        pixels = cv2.sepFilter2D(pixels, -1, across, down, borderType=cv2.BORDER_REPLICATE)
    cv2.resize(pixels, (out_width, out_height), dst=out, interpolation=filtering)
    if mirror:
        cv2.flip(out, 1, dst=out)


def resize_box_into(
    out: np.ndarray,
    decoder: Decoder,
    data: np.ndarray,
    width: int,
    height: int,
    box: Sequence[float],
) -> None:
    """Resize a fractional box (x, y, w, h) with an antialiased bilinear filter into `out`: for
    evaluation.

    `out` is uint8 [size, size, 3] for RGB or [size, size, 1] for a grey member, and may be channels
    of a larger array. Equal to resizing the whole image with Pillow (which torchvision calls) and
    cutting the result, but only the box and the reach of the filter around it are decoded.
    """
    size = out.shape[0]
    x, y, w, h = box
    # every filter leaves these as they are
    if w == h == size and float(x).is_integer() and float(y).is_integer():
        out[:] = decoder.box(data, width, height, (int(x), int(y), size, size), out.shape[2])
        return
    reach = [math.ceil(max(1.0, extent / size)) + 1 for extent in box[2:]]
    x0 = max(0, math.floor(box[0]) - reach[0])
    y0 = max(0, math.floor(box[1]) - reach[1])
    x1 = min(width, math.ceil(box[0] + box[2]) + reach[0])
    y1 = min(height, math.ceil(box[1] + box[3]) + reach[1])
    image = picture(decoder.box(data, width, height, (x0, y0, x1 - x0, y1 - y0), out.shape[2]))
    edges = (
        box[0] - x0,
        box[1] - y0,
        min(box[0] + box[2] - x0, x1 - x0),
        min(box[1] + box[3] - y0, y1 - y0),
    )
    out[:] = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=edges)).reshape(
        out.shape
    )


def picture(pixels: np.ndarray) -> Image.Image:
    """Make a Pillow image of pixels uint8 [h, w, 3] or [h, w, 1]."""
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])


def channels_of(out: np.ndarray, num_members: int) -> list[np.ndarray]:
    """View the channels of `out` [..., C] that each member fills: the first three, then one each."""
    return [
        out[..., :3],
        *(out[..., channel : channel + 1] for channel in range(3, 2 + num_members)),
    ]
