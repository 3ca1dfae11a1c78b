"""EXIF orientations outside 1 to 8 mean upright: in packing, in place and in prediction, of every
format.
"""

import io
import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from preprocess.images.geometry import ImageOptions, tile_interval
from preprocess.images.image import decode_image, pack_image
from preprocess.images.outcome import BadImage
from preprocess.jpeg.retile import retile
from preprocess.packing.in_place import examine
from tests.conftest import jpeg, photograph

IMAGE = photograph(120, 40)
SHORT, LONG, ASCII, RATIONAL, SSHORT = 3, 4, 2, 5, 8


def exif(kind: int, count: int, value: bytes) -> bytes:
    """Make EXIF whose only entry is Orientation; a value of more than four bytes follows it."""
    inside = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", 26)
    more = value if len(value) > 4 else b""
    return (
        b"Exif\0\0II*\0"
        + struct.pack("<IHHHI", 8, 1, 0x0112, kind, count)
        + inside
        + bytes(4)
        + more
    )


ODD = {
    "0": exif(SHORT, 1, b"\0\0"),
    "9": exif(SHORT, 1, b"\x09\0"),
    "49": exif(SHORT, 1, b"\x31\0"),
    "65535": exif(SHORT, 1, b"\xff\xff"),
    "-1": exif(SSHORT, 1, b"\xff\xff"),
    "2 to the 31": exif(LONG, 1, struct.pack("<I", 1 << 31)),
    "text": exif(ASCII, 2, b"6\0"),
    "list": exif(SHORT, 2, b"\x06\0\x06\0"),
    "fraction": exif(RATIONAL, 1, struct.pack("<II", 13, 2)),
    "divided by 0": exif(RATIONAL, 1, struct.pack("<II", 6, 0)),
}


def tiff(orientation: bytes) -> bytes:
    """Add the entry of Orientation to an uncompressed TIFF: Pillow would write it as a plain
    number.
    """
    entry, more = orientation[16:28], orientation[32:]
    width, height = IMAGE.size
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 300),
            (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, 3 * width * height)]  # fmt: skip
    entries = [struct.pack("<HHII", *tag) for tag in tags]
    entries.append(entry if not more else entry[:8] + struct.pack("<I", 220))
    head = (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + b"".join(sorted(entries, key=lambda e: e[1::-1]))
    )
    head = head.ljust(200, b"\0") + struct.pack("<HHH", 8, 8, 8).ljust(20, b"\0") + more
    return head.ljust(300, b"\0") + IMAGE.tobytes()


def saved(kind: str, orientation: bytes) -> bytes:
    if kind == "TIFF":
        return tiff(orientation)
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    IMAGE.save(file, kind, exif=orientation, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ODD)
def test_an_orientation_that_is_none_means_upright(name, kind):
    if (name, kind) == ("list", "TIFF"):
        pytest.skip("Pillow turns a TIFF by the first of several values when it opens it")
    data = saved(kind, ODD[name])
    found = decode_image(data)
    assert found.shape == (40, 120, 3)
    if kind != "JPEG":
        np.testing.assert_array_equal(found, np.asarray(IMAGE))
    for options in (ImageOptions(), ImageOptions(short_side=20), ImageOptions(encoding="png")):
        packed = pack_image(data, options)
        assert packed.width > packed.height


@pytest.mark.parametrize("name", ODD)
def test_such_a_jpeg_keeps_its_coefficients_and_is_served_in_place(name):
    data = saved("JPEG", ODD[name])
    assert pack_image(data, ImageOptions()).images["jpg"] == retile(jpeg(IMAGE), tile_interval)
    assert (examine(data).width, examine(saved("PNG", ODD[name])).width) == (120, 120)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_others_are_applied_as_pillow_does(orientation, kind):
    data = saved(kind, exif(SHORT, 1, bytes([orientation, 0])))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), expected)
    packed = pack_image(data, ImageOptions(encoding="png")).images["png"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(packed))), expected)
    if kind == "JPEG" and orientation > 1:
        with pytest.raises(BadImage, match=f"EXIF orientation {orientation}"):
            examine(data)


def test_a_turned_jpeg_loses_nothing_but_once():
    data = saved("JPEG", exif(SHORT, 1, b"\x06\0"))
    packed = simplejpeg.decode_jpeg(pack_image(data, ImageOptions(quality=95)).images["jpg"])
    assert packed.shape == (120, 40, 3)
    assert np.abs(packed.astype(int) - decode_image(data)).mean() < 8
