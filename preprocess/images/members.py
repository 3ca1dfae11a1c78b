"""From pixels to the image members of a sample: a JPEG or PNG of its colours, a grey one of each
further band.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from preprocess.images.geometry import (
    MAX_SIDE,
    ImageOptions,
    grey_interval,
    packed_size,
    tile_interval,
)
from preprocess.jpeg.resize_jpeg import Output, encode_rgb
from preprocess.jpeg.retile import retile
from preprocess.jpeg.tile_file import Tiled

DAMAGED = "damaged JPEG: "  # what the reasons of images begin with that --accept-damaged packs


class BadImage(ValueError):
    """The bytes are not a usable photograph; the message is the reason, in one line."""


class DamagedImage(BadImage):
    """Pixels of a photograph are lost, though it can be decoded: `--accept-damaged` packs it all
    the same.
    """


@dataclass(frozen=True)
class Packed:
    """The members of a packed image by suffix, and the exact sums of its pixels: from which the
    statistics follow.

    The sums run over the C channels (R, G, B, then further bands; values 0 to 255): of a re-encoded
    image, just before that. `damage` says which pixels were lost before; "" where none were.
    """

    images: Mapping[str, bytes]
    width: int
    height: int
    pixel_sum: tuple[int, ...]
    pixel_sum_squares: tuple[int, ...]
    damage: str = ""


@dataclass(frozen=True)
class JpegEncoding:
    """How a JPEG is written."""

    quality: int  # -1: the tables say it
    subsampling: int  # Pillow's: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0
    tables: list[list[int]] | None = None


def pack_pixels(
    rgb: Image.Image,
    target: tuple[int, int],
    options: ImageOptions,
    jpeg: JpegEncoding | None = None,
) -> Packed:
    """Encode an RGB image at its packed size; `jpeg` keeps the encoding of an original that has
    this size.
    """
    if options.encoding == "png":
        if rgb.size != target:
            rgb = rgb.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
        return with_sums({"png": _png(rgb)}, rgb)
    if jpeg is not None:
        return with_sums({"jpg": _jpeg(rgb, jpeg)}, rgb)
    _check_side(target)
    tiled = encode_rgb(np.asarray(rgb), output_of(target, options))
    resized = tiled_as_packed(tiled)
    return resized if rgb.size != target else with_sums(resized.images, rgb)


def output_of(target: tuple[int, int], options: ImageOptions) -> Output:
    """Return how an image that is re-encoded is written."""
    return Output(*target, options.quality, tile_interval)


def tiled_as_packed(tiled: Tiled) -> Packed:
    """Take a tiled JPEG for a sample's only image, with its sums or those of its decoded pixels.

    Raises ValueError where they are to be decoded and cannot.
    """
    images = {"jpg": tiled.data}
    if tiled.sums is None:
        return with_sums(images, Image.fromarray(simplejpeg.decode_jpeg(tiled.data, "RGB")))
    return Packed(images, tiled.width, tiled.height, tiled.sums[:3], tiled.sums[3:])


def pack_bands(bands: np.ndarray, options: ImageOptions) -> Packed:
    """Resize and encode uint8 [height, width, C], red, green and blue first, as the members that
    the options name.
    """
    images = [
        Image.fromarray(bands[..., :3]),
        *(Image.fromarray(band) for band in np.moveaxis(bands[..., 3:], 2, 0)),
    ]
    target = packed_size(images[0].size, options)
    if images[0].size != target:
        images = [
            image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0) for image in images
        ]
    jpeg = JpegEncoding(options.quality, 2)
    encoded = [_png(image) if options.encoding == "png" else _jpeg(image, jpeg) for image in images]
    return with_sums(dict(zip(options.members, encoded, strict=True)), *images)


def with_sums(members: Mapping[str, bytes], *images: Image.Image) -> Packed:
    """Sum up the pixels of members, which all have one size."""
    counts = np.concatenate([np.asarray(image.histogram(), np.int64) for image in images]).reshape(
        -1, 256
    )
    values = np.arange(256)
    sums = counts @ values
    squares = counts @ values**2
    return Packed(members, *images[0].size, tuple(sums.tolist()), tuple(squares.tolist()))


def _jpeg(image: Image.Image, encoding: JpegEncoding) -> bytes:
    """Write a tiled baseline JPEG, of RGB or grey."""
    _check_side(image.size)
    grey = image.mode == "L"
    file = io.BytesIO()
    options = {} if grey else {"subsampling": encoding.subsampling, "qtables": encoding.tables}
    image.save(file, "JPEG", quality=encoding.quality, progressive=False, comment=b"", **options)
    interval_of = grey_interval if grey else tile_interval
    tiled = retile(file.getvalue(), interval_of, keep_grey=grey)
    assert tiled is not None  # a baseline JPEG, just written
    return tiled


def _check_side(size: tuple[int, int]) -> None:
    if max(size) > MAX_SIDE:
        raise BadImage(
            f"{size[0]} x {size[1]} has a side over {MAX_SIDE} pixels, JPEG's limit; shrink it with "
            "--max-side"
        )


def _png(image: Image.Image) -> bytes:
    """Write a PNG of nothing but the pixels."""
    if max(image.size) > MAX_SIDE:
        raise BadImage(
            f"{image.width} x {image.height} has a side over {MAX_SIDE} pixels; shrink it with "
            f"--max-side"
        )
    file = io.BytesIO()
    # without an ICC profile or transparency
    bare = Image.frombytes(image.mode, image.size, image.tobytes())
    bare.save(file, "PNG")
    return file.getvalue()
