"""What verify looks for in an image: all of it decodes, at the size told, and its tiles lead to its
end.
"""

import io

import numpy as np
import pytest
from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.images.image import pack_image
from preprocess.images.image_check import what_is_wrong
from tests.conftest import jpeg, photograph


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PACKED = pack_image(jpeg(photograph(160, 120), quality=90), ImageOptions()).images["jpg"]
LIST = PACKED.index(b"TILES\0") + 6


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (PACKED, "jpg"),
        (jpeg(photograph(160, 120), progressive=True), "jpg"),
        (jpeg(photograph(160, 120).convert("L")), "nir.jpg"),
        (png(photograph(160, 120)), "png"),
        (png(photograph(160, 120).convert("L")), "png"),
    ],
)
def test_good_images_pass(data, suffix):
    assert what_is_wrong(as_array(data), suffix, 160, 120) is None


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a JPEG of the 160 x 120"),
        (PACKED[: len(PACKED) // 2], "damaged JPEG"),
        (PACKED[:-2], "damaged JPEG"),
        (jpeg(photograph(160, 121)), "not a JPEG of the 160 x 120"),
        (changed(PACKED, LIST + 1, bytes([PACKED[LIST + 1] ^ 1])), "list of tiles does not lead"),
        (PACKED + b"more", "list of tiles does not lead"),
        (PACKED.replace(b"\xff\xdd\0\4\0\5", b"\xff\xdd\0\4\0\2"), "JPEG"),
    ],
)
def test_what_is_wrong_with_a_jpeg(data, says):
    assert says in what_is_wrong(as_array(data), "jpg", 160, 120)


def test_what_is_wrong_with_a_png():
    data = png(photograph(160, 120))
    assert "damaged PNG" in what_is_wrong(as_array(data[:3000]), "png", 160, 120)
    assert "damaged PNG" in what_is_wrong(as_array(changed(data, 900, b"\0\1")), "png", 160, 120)
    assert "damaged PNG" in what_is_wrong(as_array(b"no PNG"), "png", 160, 120)
    assert "160 x 120 pixels, its JSON tells 120 x 160" in what_is_wrong(
        as_array(data), "png", 120, 160
    )


def test_bombs_are_refused_by_their_headers():
    assert "more than 100,000,000 pixels" in what_is_wrong(as_array(PACKED), "jpg", 60000, 60000)
    at = PACKED.index(b"\xff\xc0")
    bomb = changed(PACKED, at + 5, (60000).to_bytes(2, "big") * 2)
    assert "not a JPEG of the 160 x 120" in what_is_wrong(as_array(bomb), "jpg", 160, 120)
    assert "not an image that is read here" in what_is_wrong(as_array(PACKED), "exe", 160, 120)
