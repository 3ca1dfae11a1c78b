"""Turn the bytes of any photograph into what a shard holds: 8-bit RGB, upright, a tiled baseline
JPEG or a PNG.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from preprocess.images.geometry import ImageOptions, packed_size, tile_interval
from preprocess.images.heif import MissingDecoder, heif_format
from preprocess.images.members import (
    JpegEncoding,
    output_of,
    pack_bands,
    pack_pixels,
    tiled_as_packed,
)
from preprocess.images.orientation import orientation, turned
from preprocess.images.outcome import DAMAGED, BadImage, DamagedImage, Packed
from preprocess.images.pixels import tiff_rgb, upright_rgb
from preprocess.images.tiff import is_tiff, read_tiff, scale_bands
from preprocess.jpeg.jpeg_scan import open_jpeg
from preprocess.jpeg.resize_jpeg import resize_jpeg
from preprocess.jpeg.retile import tile
from shards.disk.format import MAX_PIXELS
from shards.errors import DamagedError, one_line
from shards.scans.damage import decode_whole

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")


def pack_image(data: bytes, options: ImageOptions, accept_damaged: bool = False) -> Packed:
    """Decode a photograph and encode it as a tiled baseline JPEG, or a PNG, without any metadata.

    EXIF orientation is applied, then the size, then everything becomes 8-bit RGB: 16-bit grey by
    its high byte, alpha composed onto white (what is under transparent pixels is arbitrary, and who
    labelled the image did not see it), the first frame of several. An ICC profile is dropped, not
    applied, as PIL-based loaders do. An upright JPEG at its original size, a progressive one too,
    keeps its coefficients, so that it loses nothing (retile); one that cannot be rewritten, such as
    one with harmless faults, keeps its quantisation tables and subsampling; the rest is encoded at
    `options.quality`. With encoding png the decoded pixels are kept. Of a multispectral set
    (`options.bands`) the TIFF's bands are scaled to 8 bits and encoded, colours first. Raises
    BadImage with the reason: DamagedImage where a JPEG has lost pixels, unless that is accepted.
    """
    with _reasons():
        if options.bands:
            with _quiet():
                return pack_bands(scale_bands(read_tiff(data), options.bands), options)
        try:
            return _pack(data, options, False)
        except DamagedError as error:
            if not accept_damaged:
                raise
            return replace(_pack(data, options, True), damage=f"{DAMAGED}{error}")


def decode_image(data: bytes, accept_damaged: bool = False) -> np.ndarray:
    """Decode a photograph at its size by the rules of `pack_image`: uint8 [height, width, 3] RGB,
    upright.

    They are the pixels that a shard of it decodes to, unless packing has to encode it again as a
    JPEG. Raises BadImage with the reason: DamagedImage where a JPEG has lost pixels, unless that is
    accepted.
    """
    with _reasons(), _quiet():
        return np.asarray(_load_upright(data, ImageOptions(), accept_damaged)[0])


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever decoding raises into BadImage."""
    try:
        yield
    except (BadImage, MissingDecoder, MemoryError):
        raise
    except DamagedError as error:
        raise DamagedImage(f"{DAMAGED}{error}") from error
    except Image.DecompressionBombError:
        raise BadImage(f"more than {MAX_PIXELS:,} pixels by its header") from None
    except Exception as error:  # on hostile bytes Pillow's parsers raise almost anything
        raise BadImage(one_line(error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings on damaged metadata and on large sizes, which are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open(data: bytes) -> Image.Image:
    if not data:
        raise BadImage("empty file")
    if data[:2] == b"\xff\xd8":
        data += b"\xff\xd9"  # else Pillow takes a JPEG that lacks only its end for a truncated one
    try:
        kind = heif_format(data)
        image = Image.open(io.BytesIO(data), formats=FORMATS if kind is None else (kind,))
    except Image.UnidentifiedImageError:
        raise BadImage(f"damaged header, or not one of {', '.join(FORMATS)}, HEIC, AVIF") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if width < 1 or height < 1:
        raise BadImage(f"{width} x {height} has no pixels")
    return image


def _pack(data: bytes, options: ImageOptions, accept_damaged: bool) -> Packed:
    tiled = _of_coefficients(data, options) if options.encoding == "jpg" else None
    if tiled is not None:
        return tiled
    with _quiet():
        rgb, target, encoding = _decode(data, options, accept_damaged)
        return pack_pixels(rgb, target, options, encoding)


def _of_coefficients(data: bytes, options: ImageOptions) -> Packed | None:
    """Tile an upright JPEG from its coefficients, without loss where it keeps its size; None where
    its pixels are needed.
    """
    opened = open_jpeg(data)
    if opened is None:
        return None
    size = (opened.headers.width, opened.headers.height)
    if size[0] * size[1] > MAX_PIXELS:
        return None
    if opened.headers.has_metadata and _is_turned(data):
        return None
    target = packed_size(size, options)
    if target != size:
        tiled = resize_jpeg(opened, output_of(target, options))
    else:
        tiled = tile(opened, tile_interval, False, True)
    try:
        return None if tiled is None else tiled_as_packed(tiled)
    except ValueError:  # the sums of a rare kind are of another decoder, which may refuse it
        return None


def _is_turned(data: bytes) -> bool:
    with _quiet():
        return orientation(_open(data)) != 1


def _decode(
    data: bytes, options: ImageOptions, accept_damaged: bool
) -> tuple[Image.Image, tuple[int, int], JpegEncoding | None]:
    """Return the upright RGB pixels, the (width, height) to be packed and, where they keep their
    encoding, which that is.
    """
    if options.encoding == "jpg" and data[:2] == b"\xff\xd8":
        image = _open(data)
        encoding = _own_encoding(image) if packed_size(image.size, options) == image.size else None
        if encoding is not None:
            # Chroma is repeated, not smoothed: encoding averages it back, so that repeating is
            # undone exactly. Over VOC photographs the packed image comes within 57 dB of the
            # original instead of 49 dB.
            pixels = _jpeg_pixels(image, data, accept_damaged, fastdct=False, fastupsample=True)
            return Image.fromarray(pixels), image.size, encoding
    rgb, full_size = _load_upright(data, options, accept_damaged)
    return rgb, packed_size(full_size, options), None


def _own_encoding(image: Image.Image) -> JpegEncoding | None:
    """Return the encoding that keeps an upright YCbCr JPEG as it is, or None where that is not
    possible.
    """
    if (
        not isinstance(image, JpegImagePlugin.JpegImageFile)
        or image.mode != "RGB"
        or orientation(image) != 1
    ):
        return None
    components = image.layer
    stored_rgb = image.info.get("adobe_transform") == 0 or [c[0] for c in components] == [
        82,
        71,
        66,
    ]
    subsampling = JpegImagePlugin.get_sampling(image)
    if stored_rgb or subsampling not in (0, 1, 2):  # others, such as 4:4:0, Pillow cannot write
        return None
    per_component = [list(image.quantization[c[3]]) for c in components]
    return JpegEncoding(
        -1, subsampling, per_component[: 2 if per_component[1] == per_component[2] else 3]
    )


def _load_upright(
    data: bytes, options: ImageOptions, accept_damaged: bool
) -> tuple[Image.Image, tuple[int, int]]:
    """Return upright RGB pixels, of a JPEG perhaps at reduced scale, and the full upright (width,
    height).
    """
    try:
        image = _open(data)
    except BadImage:
        if not is_tiff(data):
            raise
        # a kind that Pillow does not know, or the reason why it cannot be read
        rgb = tiff_rgb(data)
        return rgb, rgb.size
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        rgb = upright_rgb(image, data)
        return rgb, rgb.size
    by = orientation(image)
    full_size = image.size[::-1] if by >= 5 else image.size
    width, height = packed_size(full_size, options)
    scaled = {}
    # DCT scaling to no less than twice the target loses nothing visible
    if (width, height) != full_size:
        image.draft(None, (2 * height, 2 * width) if by >= 5 else (2 * width, 2 * height))
        scaled = {"min_width": image.size[0], "min_height": image.size[1]}
    return turned(
        Image.fromarray(_jpeg_pixels(image, data, accept_damaged, **scaled)), by
    ), full_size


def _jpeg_pixels(image: Image.Image, data: bytes, accept_damaged: bool, **how: Any) -> np.ndarray:
    """Decode a JPEG with the options of simplejpeg, at the scale at which `image` was opened: uint8
    [H, W, 3].

    Raises DamagedError where pixels are lost, unless that is accepted.
    """
    if image.mode in ("RGB", "L"):
        try:
            return decode_whole(data, "RGB", accept_damaged, **how)
        except DamagedError:
            raise
        except ValueError:  # TurboJPEG's interface refuses some samplings of colour, libjpeg none
            pass
    else:
        # only to see that all of it is there: Pillow knows Adobe's colours
        decode_whole(data, "CMYK", accept_damaged)
    return np.asarray(image.convert("RGB"))
