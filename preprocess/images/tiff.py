"""Multispectral TIFFs, 8 or 16 bits a band: read them without losing precision, and scale bands to
8 bits.
"""

import io
import logging
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from preprocess.images.geometry import Band
from preprocess.images.outcome import BadImage
from shards.disk.format import MAX_PIXELS
from shards.errors import one_line

if TYPE_CHECKING:
    from tifffile import TiffFrame, TiffPage

MAX_VALUES = 200_000_000  # of all bands together: 400 MB of 16 bits
_ORIENTATION = 274  # a tag
_TRANSPOSED = (5, 6, 7, 8)  # its values; what they then mirror, up and down and left and right
_MIRRORED = ((3, 4, 7, 8), (2, 3, 6, 7))
_PREMULTIPLIED = 1  # this and the next: values of ExtraSamples
_ALPHA = 2
# Compressions. tifffile reads others, such as LZW, only with a library more.
_PLAIN = 1
_DEFLATE = (8, 32946)


def is_tiff(data: bytes) -> bool:
    """Tell a TIFF, also one of more than 4 GB, by its first bytes."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(data: bytes) -> np.ndarray:
    """Decode the first image of a TIFF, upright: uint8 or uint16 [height, width, bands].

    Sizes are checked before anything is allocated or unpacked. Raises BadImage with the reason.
    """
    pixels, page = _read(data)
    by = _orientation(page)
    if by in _TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    down, across = (-1 if by in mirrored else 1 for mirrored in _MIRRORED)
    return pixels[::down, ::across]


def read_photograph(data: bytes) -> tuple[np.ndarray, int]:
    """Decode the first image of a TIFF of colours or greys: uint8 [height, width, 3], alpha on
    white, and orientation.

    Raises BadImage with the reason.
    """
    pixels, page = _read(data)
    if page.imagewidth * page.imagelength > MAX_PIXELS:
        raise BadImage(f"{page.imagewidth} x {page.imagelength} is more than {MAX_PIXELS:,} pixels")
    num_colours = {0: 1, 1: 1, 2: 3}.get(page.photometric, 0)
    if not num_colours or pixels.shape[2] < num_colours:
        name = getattr(page.photometric, "name", page.photometric)
        raise BadImage(
            f"TIFF of kind {name} with {pixels.shape[2]} samples a pixel; save it as 8-bit RGB"
        )
    most = np.iinfo(pixels.dtype).max
    colours = pixels[..., :num_colours]
    if page.photometric == 0:
        colours = most - colours
    if page.extrasamples and page.extrasamples[0] in (_PREMULTIPLIED, _ALPHA):
        colours = _on_white(
            colours, pixels[..., num_colours], page.extrasamples[0] == _PREMULTIPLIED
        )
    rgb = (colours >> (8 * pixels.itemsize - 8)).astype(np.uint8)
    rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))
    return np.ascontiguousarray(rgb), _orientation(page)


def _orientation(page: "TiffPage") -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1


def _on_white(colours: np.ndarray, alpha: np.ndarray, premultiplied: bool) -> np.ndarray:
    most = np.iinfo(colours.dtype).max
    shares = alpha[..., None].astype(np.float32) / most
    shown = colours if premultiplied else colours * shares
    return np.clip(np.rint(shown + most * (1 - shares)), 0, most).astype(colours.dtype)


def _read(data: bytes) -> "tuple[np.ndarray, TiffPage]":
    if not is_tiff(data):
        raise BadImage("not a TIFF")
    import tifffile  # 20 ms, which the packing of JPEGs does without

    logging.getLogger("tifffile").disabled = True  # it logs what it then raises
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = _checked(file.pages.first, data)
            pixels = page.asarray()
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # on hostile bytes tifffile raises almost anything
        raise BadImage(f"damaged TIFF ({one_line(error)})") from error
    if pixels.ndim == 2:
        return pixels[..., None], page
    return (np.moveaxis(pixels, 0, 2) if page.axes == "SYX" else pixels), page


def scale_bands(pixels: np.ndarray, bands: Sequence[Band]) -> np.ndarray:
    """Pick bands out of pixels [height, width, *] and scale each from its range: uint8 [height,
    width, C].

    Values outside a range become 0 or 255. Raises BadImage where a band is not there.
    """
    if max(band.position for band in bands) >= pixels.shape[2]:
        raise BadImage(
            f"{pixels.shape[2]} bands; {', '.join(band.name for band in bands)} are needed"
        )
    scaled = np.empty((*pixels.shape[:2], len(bands)), np.uint8)
    for channel, band in enumerate(bands):
        np.take(_levels(band.low, band.high), pixels[..., band.position], out=scaled[..., channel])
    return scaled


@lru_cache(16)
def _levels(low: float, high: float) -> np.ndarray:
    """Map each value of 16 bits to 8: uint8 [65536]."""
    shares = (np.arange(1 << 16) - low) / max(high - low, 1e-9)
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def _checked(page: "TiffPage | TiffFrame", data: bytes) -> "TiffPage":
    """Refuse what is too large, of an unknown kind, incomplete, or a deflate bomb."""
    from tifffile import TiffPage

    if (
        not isinstance(page, TiffPage)
        or page.axes not in ("YX", "YXS", "SYX")
        or page.dtype is None
    ):
        raise BadImage("no plain image of rows, columns and bands in the TIFF")
    if page.dtype not in (np.uint8, np.uint16):
        raise BadImage(f"TIFF of {page.dtype} values; convert it to unsigned 8 or 16 bits")
    if page.bitspersample not in (8, 16):
        raise BadImage(
            f"TIFF of {page.bitspersample} bits a value; convert it to unsigned 8 or 16 bits"
        )
    num_values = int(np.prod([int(side) for side in page.shape], dtype=object))
    if not 0 < num_values <= MAX_VALUES or max(page.imagewidth, page.imagelength) > 0xFFFF:
        raise BadImage(
            f"TIFF of {' x '.join(str(side) for side in page.shape)} values; at most "
            f"{MAX_VALUES:,} are read"
        )
    if page.compression not in (_PLAIN, *_DEFLATE):
        name = getattr(page.compression, "name", page.compression)
        raise BadImage(f"TIFF compressed by {name}; save it uncompressed or with deflate")
    offsets = page.dataoffsets
    counts = page.databytecounts
    if (
        len(offsets) != len(counts)
        or not all(counts)
        or any(at + n > len(data) for at, n in zip(offsets, counts, strict=True))
    ):
        raise BadImage("truncated TIFF")
    if page.compression == _PLAIN and sum(counts) < num_values * page.dtype.itemsize:
        raise BadImage("truncated TIFF")
    if page.compression in _DEFLATE:
        room = 2 * num_values * page.dtype.itemsize + (1 << 24)  # tiles may reach beyond the image
        for at, length in zip(offsets, counts, strict=True):
            room -= len(zlib.decompressobj().decompress(data[at : at + length], room))
            if room <= 0:
                raise BadImage("TIFF with more data than its size tells")
    return page
