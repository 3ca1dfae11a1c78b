"""Damaged images through every reader of images: each function tries one case and says how it
ended.
"""

import io
import zlib
from functools import cache

import numpy as np
import simplejpeg
from PIL import Image

from preprocess.images.geometry import ImageOptions, tile_interval
from preprocess.images.image import BadImage, pack_image
from preprocess.images.image_check import what_is_wrong
from preprocess.jpeg.retile import retile
from shards.decode.decoder import Decoder
from shards.errors import SampleError
from shards.tiles.cut import MISMATCH, cut_tiles
from tests.conftest import jpeg, photograph
from tests.faults.mutation import mutated

WIDTH, HEIGHT = 96, 80


@cache
def tiled(subsampling: int) -> bytes:
    data = retile(
        jpeg(photograph(WIDTH, HEIGHT), quality=85, subsampling=subsampling), tile_interval
    )
    assert data is not None
    return data


@cache
def encoded(kind: str) -> bytes:
    image, file = photograph(WIDTH, HEIGHT), io.BytesIO()
    if kind == "progressive":
        return jpeg(image, quality=85, progressive=True)
    if kind == "png":
        image.save(file, "PNG")
        return file.getvalue()
    return jpeg(image, quality=85, subsampling=int(kind))


def splicer(rng: np.random.Generator) -> str:
    """Cut a box out of a damaged JPEG: what is accepted has the pixels that decoding all of it has
    there.
    """
    data = np.frombuffer(mutated(rng, tiled(int(rng.integers(3))), 700), np.uint8)
    w, h = int(rng.integers(1, WIDTH + 1)), int(rng.integers(1, HEIGHT + 1))
    x, y = int(rng.integers(0, WIDTH - w + 1)), int(rng.integers(0, HEIGHT - h + 1))
    out = np.full(len(data) + 2 + 64, 171, np.uint8)
    size = cut_tiles(data, WIDTH, HEIGHT, x, y, w, h, out[: len(data) + 2])[0]
    assert MISMATCH <= size <= len(data) + 2
    assert (out[len(data) + 2 :] == 171).all(), "written beyond the end"
    try:
        box = Decoder().box(data, WIDTH, HEIGHT, (x, y, w, h))
    except SampleError:
        return "refused"
    try:
        whole = simplejpeg.decode_jpeg(data, "RGB", strict=True)[y : y + h, x : x + w]
    except ValueError:
        return "decoded though damaged elsewhere"
    assert np.array_equal(box, whole), "other pixels than the whole"
    return "the pixels of the whole"


def decoder(rng: np.random.Generator) -> str:
    """Decode and resize a damaged JPEG with the tile decoder, then the ordinary way."""
    data = np.frombuffer(mutated(rng, tiled(int(rng.integers(3))), 700), np.uint8)
    w, h = int(rng.integers(1, WIDTH + 1)), int(rng.integers(1, HEIGHT + 1))
    box = (int(rng.integers(0, WIDTH - w + 1)), int(rng.integers(0, HEIGHT - h + 1)), w, h)
    out = np.zeros((32, 32, 3), np.uint8)
    decoder = _decoder()
    if not decoder.crop_tiles_into(out, data, WIDTH, HEIGHT, box, False):
        try:
            decoder.crop_into(out, data, WIDTH, HEIGHT, box, False)
        except SampleError:
            return "refused"
        return "decoded the ordinary way"
    # raises where libjpeg warns: nothing is accepted that it refuses
    pixels = decoder.box(data, WIDTH, HEIGHT, box)
    expected = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (32, 32), Image.Resampling.BILINEAR
    )
    if np.abs(np.asarray(expected).astype(int) - out).mean() < 2.5:
        return "the pixels of libjpeg"
    assert ((pixels == 0) | (pixels == 255)).any(), "other pixels, though nothing is clamped"
    return "wild coefficients, clamped"


@cache
def _decoder() -> Decoder:
    return Decoder()


def retiler(rng: np.random.Generator) -> str:
    """Rewrite a damaged JPEG, baseline or progressive: refused, or the same pixels."""
    kind = ("0", "1", "2", "progressive")[int(rng.integers(4))]
    data = mutated(rng, encoded(kind), 700)
    rewritten = retile(data, tile_interval)
    if rewritten is None:
        return "refused"
    pixels = simplejpeg.decode_jpeg(rewritten, "RGB", strict=True)  # what we write is never damaged
    try:
        before = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return "rewritten though libjpeg warns"
    assert np.array_equal(pixels, before), "other pixels"
    return "the same pixels"


def packer(rng: np.random.Generator) -> str:
    """Pack a damaged image: rejected with one line, or whole afterwards."""
    kind = ("2", "progressive", "png")[int(rng.integers(3))]
    try:
        packed = pack_image(mutated(rng, encoded(kind), 100), ImageOptions())
    except BadImage as error:
        if "\n" in str(error):
            raise AssertionError("a reason of several lines") from error
        return "rejected"
    data = np.frombuffer(packed.images["jpg"], np.uint8)
    assert what_is_wrong(data, "jpg", packed.width, packed.height) is None
    return "packed whole"


def png(rng: np.random.Generator) -> str:
    """Read a damaged PNG member; half of them with checksums that are right again, as who means
    harm makes them.
    """
    data = mutated(rng, encoded("png"), 60)
    if rng.random() < 0.5:
        data = _right_checksums(data)
    whole = np.frombuffer(data, np.uint8)
    try:
        pixels = _decoder().box(whole, WIDTH, HEIGHT, (3, 5, 20, 30))
    except SampleError:
        return "refused"
    assert pixels.shape == (30, 20, 3)
    wrong = what_is_wrong(whole, "png", WIDTH, HEIGHT)
    return "read" if wrong is None else "read though damaged"


def _right_checksums(data: bytes) -> bytes:
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)
