"""Turn the bytes of any photograph into what a shard holds: 8-bit RGB, upright, a tiled baseline JPEG or a PNG."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import simplejpeg
from PIL import Image, JpegImagePlugin

from preprocess.geometry import ImageOptions, packed_size, tile_interval
from preprocess.members import BadImage, JpegEncoding, Packed, pack_bands, pack_pixels, with_sums
from preprocess.retile import retile
from preprocess.tiff import read_tiff, scale_bands
from shards.errors import one_line
from shards.format import MAX_PIXELS

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")

_UPRIGHT = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def pack_image(data: bytes, options: ImageOptions) -> Packed:
    """Decode a photograph and encode it as a tiled baseline JPEG, or a PNG, without any metadata.

    EXIF orientation is applied, then the size, then everything becomes 8-bit RGB: 16-bit grey by its high
    byte, alpha composed onto white (what is under transparent pixels is arbitrary, and who labelled the image
    did not see it), the first frame of several. An ICC profile is dropped, not applied, as PIL-based loaders
    do. An upright JPEG at its original size, a progressive one too, keeps its coefficients, so that it loses
    nothing (retile); one that cannot be rewritten, such as a damaged one, keeps its quantisation tables and
    subsampling; the rest is encoded at `options.quality`.
    With encoding png the decoded pixels are kept. Of a multispectral set (`options.bands`) the TIFF's bands are
    scaled to 8 bits and encoded, colours first.
    Raises BadImage with the reason.
    """
    with _reasons():
        if options.bands:
            return pack_bands(scale_bands(read_tiff(data), options.bands), options)
        tiled = _retiled(data, options) if options.encoding == "jpg" else None
        if tiled is not None:
            return tiled
        rgb, encoding = _decode(data, options)
    return pack_pixels(rgb, options, encoding)


def decode_image(data: bytes) -> np.ndarray:
    """Decode a photograph at its size by the rules of `pack_image`: uint8 [height, width, 3] RGB, upright.

    They are the pixels that a shard of it decodes to, unless packing has to encode it anew as a JPEG.
    Raises BadImage with the reason.
    """
    with _reasons():
        image = _open(data)
        if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode in ("RGB", "L") and _orientation(image) == 1:
            try:
                return simplejpeg.decode_jpeg(data, "RGB", strict=True)
            except ValueError:  # Pillow tells files with harmless faults from truncated ones
                pass
        return np.asarray(_load_upright(image, ImageOptions())[0])


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever decoding raises into BadImage."""
    with _quiet():
        try:
            yield
        except (BadImage, MemoryError):
            raise
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
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise BadImage(f"damaged header, or not one of {', '.join(FORMATS)}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if width < 1 or height < 1:
        raise BadImage(f"{width} x {height} has no pixels")
    return image


def _retiled(data: bytes, options: ImageOptions) -> Packed | None:
    """Tile an upright JPEG of the wanted size without loss; None where it has to be encoded anew."""
    image = _open(data)
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("RGB", "L"):
        return None
    if packed_size(image.size, options) != image.size or _orientation(image) != 1:
        return None
    tiled = retile(data, tile_interval)
    if tiled is None:
        return None
    try:
        pixels = simplejpeg.decode_jpeg(tiled, "RGB")
    except ValueError:
        return None
    return with_sums({"jpg": tiled}, Image.fromarray(pixels))


def _decode(data: bytes, options: ImageOptions) -> tuple[Image.Image, JpegEncoding | None]:
    """Return the upright RGB pixels at their packed size and, where they keep their encoding, which that is."""
    image = _open(data)
    keeps = options.encoding == "jpg" and packed_size(image.size, options) == image.size
    encoding = _own_encoding(image) if keeps else None
    if encoding is not None:
        return _load_as_stored(image, data), encoding
    rgb, full_size = _load_upright(image, options)
    target = packed_size(full_size, options)
    if rgb.size != target:
        rgb = rgb.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return rgb, None


def _own_encoding(image: Image.Image) -> JpegEncoding | None:
    """Return the encoding that keeps an upright YCbCr JPEG as it is, or None where that is not possible."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != "RGB" or _orientation(image) != 1:
        return None
    components = image.layer
    stored_rgb = image.info.get("adobe_transform") == 0 or [c[0] for c in components] == [82, 71, 66]
    subsampling = JpegImagePlugin.get_sampling(image)
    if stored_rgb or subsampling not in (0, 1, 2):  # others, such as 4:4:0, Pillow cannot write
        return None
    per_component = [list(image.quantization[c[3]]) for c in components]
    return JpegEncoding(-1, subsampling, per_component[: 2 if per_component[1] == per_component[2] else 3])


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF is no reason to lose the photograph
        return 1


def _load_as_stored(image: Image.Image, data: bytes) -> Image.Image:
    """Return the pixels of an upright YCbCr JPEG with its chroma repeated, not smoothed, to full resolution.

    Encoding averages chroma back, so that repeating is undone exactly while smoothing blurs: over VOC
    photographs the packed image comes within 57 dB of the original instead of 49 dB. Strict decoding also
    refuses files with harmless faults; Pillow then tells them from truncated ones.
    """
    try:
        pixels = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=True, strict=True)
    except ValueError:
        return image.convert("RGB")
    return Image.fromarray(pixels)


def _load_upright(image: Image.Image, options: ImageOptions) -> tuple[Image.Image, tuple[int, int]]:
    """Return upright RGB pixels, of a JPEG perhaps at reduced scale, and the full upright (width, height)."""
    full_size = None
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        turned = _orientation(image) >= 5
        full_size = image.size[::-1] if turned else image.size
        width, height = packed_size(full_size, options)
        if (width, height) != full_size:  # DCT scaling to no less than twice the target loses nothing visible
            image.draft(None, (2 * height, 2 * width) if turned else (2 * width, 2 * height))
    image.load()  # before asking for the orientation: Pillow turns TIFF itself, PNG may have EXIF at its end
    step = _UPRIGHT.get(_orientation(image))
    rgb = _to_rgb(image)
    if step is not None:
        rgb = rgb.transpose(step)
    return rgb, full_size or rgb.size


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        if "transparency" not in image.info:
            return image
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        high_byte = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)  # Pillow would clip at 255
        return Image.fromarray(high_byte).convert("RGB")
    elif image.mode in ("I", "F"):
        raise BadImage(f"pixels of mode {image.mode} (32 bits) have no fixed range; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
