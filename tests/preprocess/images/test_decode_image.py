"""Pictures decoded without packing them: any format, by the rules of packing."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from preprocess.images.geometry import ImageOptions
from preprocess.images.image import BadImage, decode_image, pack_image
from tests.conftest import jpeg, photograph


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_lossless_formats_give_their_pixels(kind, options, mode):
    image = photograph(61, 43).convert(mode)
    if mode == "RGBA" and kind == "BMP":
        pytest.skip("Pillow writes no alpha into BMP")
    data, pixels = saved(image, kind, **options), np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), pixels)
    packed = pack_image(data, ImageOptions(encoding="png"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(packed.images["png"]))), pixels)


def test_transparency_is_on_white_and_16_bits_give_their_high_byte():
    rgba = np.dstack(
        [np.asarray(photograph(30, 20)), np.tile(np.array([0, 255], np.uint8), (20, 15))]
    )
    found = decode_image(saved(Image.fromarray(rgba), "PNG"))
    np.testing.assert_array_equal(found, np.where(rgba[..., 3:] > 0, rgba[..., :3], 255))
    deep = np.arange(0, 65536, 109, dtype=np.uint16)[:600].reshape(20, 30)
    for kind in ("PNG", "TIFF"):
        found = decode_image(saved(Image.fromarray(deep), kind))
        np.testing.assert_array_equal(found, np.repeat(deep[..., None] >> 8, 3, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_it_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(photograph(50, 34), exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode_image(data), np.asarray(upright))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_upright_jpeg_has_the_pixels_that_its_shard_decodes_to(subsampling, progressive, mode):
    data = jpeg(
        photograph(133, 71).convert(mode),
        subsampling=subsampling,
        progressive=progressive,
        quality=80,
    )
    lossless = pack_image(data, ImageOptions(encoding="png"))
    np.testing.assert_array_equal(
        decode_image(data), np.asarray(Image.open(io.BytesIO(lossless.images["png"])))
    )
    packed = pack_image(data, ImageOptions())
    np.testing.assert_array_equal(
        decode_image(data), simplejpeg.decode_jpeg(packed.images["jpg"], "RGB")
    )


@pytest.mark.parametrize("cut", [0, 1, 10, 300, 900])
def test_damaged_bytes_have_a_reason(cut):
    data = jpeg(photograph(60, 60))[:cut]
    with pytest.raises(BadImage) as error:
        decode_image(data)
    assert "\n" not in str(error.value)
