"""What pixels become in a shard: lossless PNGs, and members of further bands."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms, PngImagePlugin

from preprocess.images.geometry import Band, ImageOptions, packed_size
from preprocess.images.image import decode_image, pack_image
from preprocess.images.image_check import what_is_wrong
from preprocess.images.members import pack_bands
from preprocess.images.outcome import BadImage
from tests.conftest import jpeg, photograph

PNG = ImageOptions(encoding="png")
BANDS = tuple(
    Band(name, at, 0, 255) for at, name in enumerate(("red", "green", "blue", "nir", "swir"))
)


def saved(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "I;16", "JPEG"])
def test_a_png_member_is_every_pixel_and_nothing_else(mode):
    image = photograph(33, 21)
    if mode == "JPEG":
        data = jpeg(image, quality=80)
    else:
        image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
        notes = PngImagePlugin.PngInfo()
        notes.add_text("comment", "of whoever took it")
        data = saved(
            image,
            pnginfo=notes,
            icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        )
    packed = pack_image(data, PNG)
    assert list(packed.images) == ["png"]
    expected = np.asarray(decode_image(data))
    member = opened(packed.images["png"])
    assert (member.format, member.mode, member.size, member.info) == ("PNG", "RGB", (33, 21), {})
    np.testing.assert_array_equal(member, expected)
    assert packed.pixel_sum == tuple(expected.astype(int).sum((0, 1)))
    assert packed.pixel_sum_squares == tuple((expected.astype(int) ** 2).sum((0, 1)))
    assert what_is_wrong(np.frombuffer(packed.images["png"], np.uint8), "png", 33, 21) is None
    assert pack_image(data, PNG) == packed


def test_an_oriented_photograph_is_upright_in_a_png():
    exif = Image.Exif()
    exif[0x0112] = 6
    packed = pack_image(jpeg(photograph(40, 20), exif=exif), PNG)
    assert (packed.width, packed.height) == (20, 40)


@pytest.mark.parametrize("size", [(341, 256), (640, 427), (31, 97)])
@pytest.mark.parametrize("options", [{"short_side": 30}, {"max_side": 50}, {"short_side": 4000}])
def test_a_png_is_resized_without_regard_to_tiles(size, options):
    packed = pack_image(saved(photograph(*size)), ImageOptions(encoding="png", **options))
    ratio = min(
        1.0,
        options["short_side"] / min(size)
        if "short_side" in options
        else options["max_side"] / max(size),
    )
    assert np.abs(np.array([packed.width, packed.height]) - np.array(size) * ratio).max() <= 0.5
    assert opened(packed.images["png"]).size == (packed.width, packed.height)


@pytest.mark.parametrize("encoding", ["jpg", "png"])
@pytest.mark.parametrize("resizing", [{}, {"short_side": 40}, {"max_side": 64}])
def test_bands_become_members_of_one_size(encoding, resizing):
    pixels = np.dstack(
        [
            photograph(97, 61, 0),
            photograph(97, 61, 1).convert("L"),
            photograph(97, 61, 2).convert("L"),
        ]
    )
    options = ImageOptions(encoding=encoding, bands=BANDS, quality=95, **resizing)
    packed = pack_bands(pixels, options)
    assert (
        tuple(packed.images) == options.members == (encoding, f"nir.{encoding}", f"swir.{encoding}")
    )
    size = packed_size((97, 61), options)
    assert (packed.width, packed.height) == size
    members = []
    for suffix, data in packed.images.items():
        image = opened(data)
        assert (image.size, image.mode) == (size, "L" if "." in suffix else "RGB")
        assert what_is_wrong(np.frombuffer(data, np.uint8), suffix, *size) is None
        pixels_of = (
            np.asarray(image)
            if encoding == "png"
            else simplejpeg.decode_jpeg(data, "GRAY" if "." in suffix else "RGB")
        )
        members.append(pixels_of.reshape(size[1], size[0], -1).astype(int))
    found = np.dstack(members)
    shown = [
        Image.fromarray(pixels[..., :3]),
        Image.fromarray(pixels[..., 3]),
        Image.fromarray(pixels[..., 4]),
    ]
    if resizing:
        shown = [image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0) for image in shown]
    expected = np.dstack([np.asarray(image) for image in shown]).astype(int)
    assert np.abs(found - expected).mean() < (8 if encoding == "jpg" else 1e-9)
    assert packed.pixel_sum == tuple(expected.sum((0, 1)))
    assert packed.pixel_sum_squares == tuple((expected**2).sum((0, 1)))


@pytest.mark.parametrize("encoding", ["jpg", "png"])
def test_a_side_longer_than_the_format_holds_is_refused(encoding):
    with pytest.raises(BadImage, match="70000 x 2 has a side over 65500 pixels"):
        pack_image(saved(Image.new("RGB", (70_000, 2))), ImageOptions(encoding=encoding))
    with pytest.raises(BadImage, match="70000 x 2 has a side over 65500 pixels"):
        pack_bands(np.zeros((2, 70_000, 5), np.uint8), ImageOptions(encoding=encoding, bands=BANDS))
