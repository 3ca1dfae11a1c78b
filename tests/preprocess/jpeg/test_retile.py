"""Tiles without a second generation: every decoder gives the same pixels as before."""

import io

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocess.images import image_check
from preprocess.images.geometry import ImageOptions, grey_interval, tile_interval
from preprocess.images.image import pack_image
from preprocess.jpeg.retile import retile
from tests.conftest import jpeg, photograph


def check_same_pixels(data: bytes) -> bytes:
    tiled = retile(data, tile_interval)
    assert tiled is not None
    np.testing.assert_array_equal(
        simplejpeg.decode_jpeg(tiled), simplejpeg.decode_jpeg(data, "RGB")
    )
    with Image.open(io.BytesIO(tiled)) as ours, Image.open(io.BytesIO(data)) as theirs:
        assert ours.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs.convert("RGB")))
    return tiled


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 140),
    height=st.integers(1, 90),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "grey"]),
    markers=st.integers(0, 5),
    optimize=st.booleans(),
)
def test_pixels_stay_equal(width, height, quality, subsampling, markers, optimize):
    options = {"quality": quality, "optimize": optimize}
    if markers:
        options["restart_marker_blocks"] = markers
    image = photograph(width, height)
    if subsampling == "grey":
        image = image.convert("L")
    else:
        options["subsampling"] = subsampling
    check_same_pixels(jpeg(image, **options))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 140),
    height=st.integers(1, 90),
    quality=st.integers(1, 100),
    markers=st.integers(0, 5),
)
def test_a_further_band_stays_one_grey_plane(width, height, quality, markers):
    options = {"restart_marker_blocks": markers} if markers else {}
    data = jpeg(photograph(width, height).convert("L"), quality=quality, **options)
    tiled = retile(data, grey_interval, keep_grey=True)
    np.testing.assert_array_equal(
        simplejpeg.decode_jpeg(tiled, "GRAY"), simplejpeg.decode_jpeg(data, "GRAY")
    )
    assert retile(tiled, grey_interval, keep_grey=True) == tiled
    with Image.open(io.BytesIO(tiled)) as image:
        assert (image.mode, image.size) == ("L", (width, height))
    across, down = -(-width // 8), -(-height // 8)
    assert b"\xff\xdd\x00\x04" + grey_interval(across, down).to_bytes(2, "big") in tiled
    what = image_check.what_is_wrong(np.frombuffer(tiled, np.uint8), "nir.jpg", width, height)
    assert what is None


def test_a_second_time_changes_nothing():
    once = check_same_pixels(jpeg(photograph(333, 222), quality=85))
    assert retile(once, tile_interval) == once


def test_tiles_are_announced_and_there():
    tiled = check_same_pixels(jpeg(photograph(320, 64), quality=85, subsampling="4:2:0"))
    at = tiled.index(b"\xff\xdd")
    assert tiled[at : at + 6] == b"\xff\xdd\x00\x04\x00\x04"
    assert sum(tiled.count(bytes([0xFF, 0xD0 + i])) for i in range(8)) == 20 * 4 // 4 - 1


def test_metadata_goes():
    image, exif = photograph(64, 64), Image.Exif()
    exif[0x010E] = "who and where" * 50
    tiled = check_same_pixels(jpeg(image, exif=exif, comment=b"a comment", icc_profile=b"x" * 3000))
    assert b"who and where" not in tiled
    assert b"a comment" not in tiled
    assert len(tiled) < len(jpeg(image)) * 1.1


@pytest.mark.parametrize(
    "data",
    [
        jpeg(photograph(64, 64).convert("CMYK")),
        jpeg(photograph(64, 64), keep_rgb=True),
        jpeg(photograph(64, 64))[:-200],
        b"",
        b"\xff\xd8\xff",
    ],
    ids=["CMYK", "stored as RGB", "truncated", "empty", "stub"],
)
def test_what_cannot_be_rewritten_is_left_to_others(data):
    assert retile(data, tile_interval) is None


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_never_gives_other_pixels_silently(data):
    """A damaged file is refused or rewritten to what the damaged file decodes to; nothing else
    happens.
    """
    good = bytearray(
        jpeg(photograph(48, 40), quality=80, restart_marker_blocks=data.draw(st.integers(1, 3)))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    damaged = (
        bytes(good[: data.draw(st.integers(0, len(good)))])
        if data.draw(st.booleans())
        else bytes(good)
    )
    tiled = retile(damaged, tile_interval)
    if tiled is None:
        return
    try:
        expected = simplejpeg.decode_jpeg(damaged, "RGB", strict=True)
    except ValueError:
        return
    np.testing.assert_array_equal(simplejpeg.decode_jpeg(tiled, "RGB"), expected)


def test_the_packer_keeps_originals():
    data = jpeg(photograph(200, 150), quality=77, subsampling="4:2:2")
    packed = pack_image(data, ImageOptions())
    np.testing.assert_array_equal(
        simplejpeg.decode_jpeg(packed.images["jpg"]), simplejpeg.decode_jpeg(data)
    )
    # The sums are of our own inverse DCT, with chroma repeated.
    pixels = simplejpeg.decode_jpeg(data, fastupsample=True).reshape(-1, 3).astype(np.int64)
    np.testing.assert_allclose(packed.pixel_sum, pixels.sum(0), rtol=1e-3)
    np.testing.assert_allclose(packed.pixel_sum_squares, (pixels**2).sum(0), rtol=1e-3)


def test_real_photographs_keep_every_pixel(voc2012_root):
    for path in sorted((voc2012_root / "JPEGImages").glob("*.jpg"))[:40]:
        check_same_pixels(path.read_bytes())


def test_a_grey_file_of_adobes_is_still_grey():
    data = jpeg(photograph(64, 48).convert("L"))
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
    check_same_pixels(data[:2] + adobe + data[2:])
