"""From the pixels that a file holds to 8-bit RGB: the one rule for every kind of PNG, TIFF, WebP,
BMP and GIF.
"""

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from preprocess.images.orientation import orientation, turned
from preprocess.images.outcome import BadImage
from preprocess.images.tiff import read_photograph

# TIFF tags.
_BITS = 258
_COMPRESSION = 259
_WHITE_IS = 262
_PLANES = 284
_FORMAT = 339


def upright_rgb(image: Image.Image, data: bytes) -> Image.Image:
    """Decode an opened image that is no JPEG: RGB, upright, alpha on white, 16 bits by their high
    byte.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_misread(image):
        return tiff_rgb(data)
    try:
        # before asking for the orientation: Pillow turns TIFF itself, PNG may have EXIF at its end
        image.load()
    except ValueError:  # planes or orders of bits that Pillow does not know
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            raise
        return tiff_rgb(data)
    return turned(image_to_rgb(image, data), orientation(image))


def tiff_rgb(data: bytes) -> Image.Image:
    """Decode a TIFF of a kind that Pillow cannot read or reads wrongly. Raises BadImage with the
    reason.
    """
    pixels, by = read_photograph(data)
    return turned(Image.fromarray(pixels), by)


def image_to_rgb(image: Image.Image, data: bytes) -> Image.Image:
    """Make 8-bit RGB of a loaded image: alpha on white, 16 bits by their high byte."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return _of_16_bits(image)
    if image.mode in ("I", "F"):
        raise BadImage(
            f"pixels of mode {image.mode} (32 bits) have no fixed range; convert it to 8 or 16 bits"
        )
    if isinstance(image, PngImagePlugin.PngImageFile) and "transparency" in image.info:
        if image.mode == "RGB" and data[24] == 16:
            return _of_transparent_colour(data)
        # Pillow scales the pixels to 8 bits, not the transparent value
        if image.mode == "L" and data[24] < 8:
            image.info["transparency"] *= 255 // ((1 << data[24]) - 1)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _is_misread(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Tell whether Pillow would decode this TIFF wrongly without an error. Raises BadImage for
    signed integers.
    """
    tags = image.tag_v2
    if image.mode not in ("I", "F") and not set(tags.get(_FORMAT, (1,))) <= {1, 4}:
        raise BadImage("TIFF of signed integers; convert it to unsigned 8 or 16 bits")
    return (
        tags.get(_PLANES) == 2 and tags.get(_COMPRESSION, 1) == 1 and max(tags.get(_BITS, (1,))) > 8
    )


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Take the high byte of 16-bit grey (of 12 bits in a TIFF, the upper 8), and what is
    transparent as white.
    """
    values = np.asarray(image).astype(np.uint32)
    bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2[_BITS][0]
        # white is zero, which Pillow does not turn round of 16 bits
        if image.tag_v2.get(_WHITE_IS) == 0:
            values = (1 << bits) - 1 - values
    grey = (values >> (bits - 8)).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _of_transparent_colour(data: bytes) -> Image.Image:
    """Decode a PNG of 16-bit RGB, one colour of which is transparent: all 16 bits say which pixels
    are.
    """
    import cv2  # 50 ms, which the packing of JPEGs does without

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise BadImage("damaged PNG")
    rgb = (pixels[..., 2::-1].astype(np.uint16) >> 8).astype(np.uint8)
    rgb[pixels[..., 3] == 0] = 255
    return Image.fromarray(rgb)
