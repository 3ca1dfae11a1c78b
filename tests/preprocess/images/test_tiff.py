"""Multispectral TIFFs: every value as it is, and one reason for each file that cannot be read."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from preprocess.images.geometry import Band, ImageOptions
from preprocess.images.image import pack_image
from preprocess.images.outcome import BadImage
from preprocess.images.tiff import MAX_VALUES, read_tiff, scale_bands
from tests.conftest import jpeg, photograph

BANDS = (
    Band("red", 2, 0, 65535),
    Band("green", 1, 0, 65535),
    Band("blue", 0, 0, 65535),
    Band("nir", 3, 0, 65535),
)


def values(height=21, width=34, bands=4, dtype=np.uint16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, bands), dtype, endpoint=True)


def written(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(
        file, pixels, **{"photometric": "minisblack", "planarconfig": "contig", **options}
    )
    return file.getvalue()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"rowsperstrip": 4},
        {"tile": (16, 16), "compression": "zlib"},
        {"bigtiff": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_every_value_is_read(options, dtype, byteorder):
    pixels = values(dtype=dtype)
    np.testing.assert_array_equal(
        read_tiff(written(pixels, byteorder=byteorder, **options)), pixels
    )


@pytest.mark.parametrize("by", range(10))
def test_bands_are_turned_as_any_photograph(by):
    pixels = values(dtype=np.uint8)
    tag = (274, "H", 1, by, True)
    grey = Image.open(io.BytesIO(written(pixels[..., 0], planarconfig=None, extratags=[tag])))
    expected = np.asarray(ImageOps.exif_transpose(grey))
    found = read_tiff(written(pixels, extratags=[tag]))
    np.testing.assert_array_equal(found[..., 0], expected)
    assert found.shape == (*expected.shape, 4)
    packed = pack_image(
        written(pixels, extratags=[tag]),
        ImageOptions(encoding="png", bands=tuple(replace(band, high=255) for band in BANDS)),
    )
    assert (packed.height, packed.width) == expected.shape
    nir = np.asarray(Image.open(io.BytesIO(packed.images["nir.png"])))
    np.testing.assert_array_equal(nir, found[..., 3])


def test_planes_and_a_single_band_have_bands_last():
    pixels = values()
    planes = written(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), planarconfig="separate")
    np.testing.assert_array_equal(read_tiff(planes), pixels)
    single = written(pixels[..., 0], planarconfig=None)
    np.testing.assert_array_equal(read_tiff(single), pixels[..., :1])


def test_scaling_is_linear_between_the_ends_of_a_range_and_clamped():
    pixels = values()
    bands = (Band("red", 2, 1000, 3000), Band("green", 0, 0, 65535), Band("blue", 1, 7, 7.5))
    expected = [
        np.rint(
            255 * np.clip((pixels[..., b.position].astype(float) - b.low) / (b.high - b.low), 0, 1)
        )
        for b in bands
    ]
    np.testing.assert_array_equal(scale_bands(pixels, bands), np.dstack(expected))
    with pytest.raises(BadImage, match="2 bands; red, green, blue are needed"):
        scale_bands(pixels[..., :2], bands)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a TIFF"),
        (jpeg(photograph(20, 20)), "not a TIFF"),
        (b"II*\0", "damaged TIFF"),
        (b"II*\0" + b"\xff" * 100, "damaged TIFF"),
        (
            written(values().astype(np.float32)),
            "TIFF of float32 values; convert it to unsigned 8 or 16 bits",
        ),
        (written(values().astype(np.int16)), "TIFF of int16 values"),
        (written(values()[..., 0] > 9, planarconfig=None), "TIFF of bool values"),
        (written(values())[:-1], "truncated TIFF"),
        (written(values(), compression="zlib")[:-9], "truncated TIFF"),
        (
            written(np.zeros((3, 8, 8, 4), np.uint16), volumetric=True),
            "no plain image of rows, columns and bands",
        ),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(BadImage, match=reason):
        read_tiff(data)
    with pytest.raises(BadImage, match=reason):
        pack_image(data, ImageOptions(bands=BANDS))


def with_tag(data: bytes, code: int, value: int) -> bytes:
    """Overwrite the value of a SHORT or LONG tag that stands in the first directory of a
    little-endian TIFF.
    """
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from("<HH", data, entry)
        if tag == code:
            packed = struct.pack("<H" if kind == 3 else "<I", value)
            return data[: entry + 8] + packed + data[entry + 8 + len(packed) :]
    raise AssertionError(f"no tag {code}")


WIDTH, HEIGHT, COMPRESSION = 256, 257, 259


def test_sizes_are_checked_before_memory_is_asked_for():
    plain = written(values())
    wide = with_tag(with_tag(plain, WIDTH, 60_000), HEIGHT, 60_000)
    with pytest.raises(
        BadImage, match=f"60000 x 60000 x 4 values; at most {MAX_VALUES:,} are read"
    ):
        read_tiff(wide)
    with pytest.raises(BadImage, match="truncated TIFF"):
        read_tiff(with_tag(plain, HEIGHT, 5_000))
    for code, name in ((5, "LZW"), (7, "JPEG")):
        with pytest.raises(
            BadImage, match=f"compressed by {name}; save it uncompressed or with deflate"
        ):
            read_tiff(with_tag(plain, COMPRESSION, code))


def test_a_deflate_bomb_is_not_unpacked():
    bomb = zlib.compress(bytes(100_000_000), 9)
    plain = written(np.zeros((200, 500, 4), np.uint16), rowsperstrip=200, metadata=None)
    with tifffile.TiffFile(io.BytesIO(plain)) as file:
        (offset,), tags = file.pages.first.dataoffsets, file.pages.first.tags
        count = tags["StripByteCounts"].offset
    data = with_tag(with_tag(plain, COMPRESSION, 8), 279, len(bomb))
    assert count < offset
    with pytest.raises(BadImage, match="more data than its size tells"):
        read_tiff(data[:offset] + bomb)


GOOD = [written(values(9, 12)), written(values(9, 12), compression="zlib", rowsperstrip=4)]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_hostile_bytes_are_bad_images_or_images(data):
    """Damage in the headers never crashes, nor makes an image larger than what is allowed."""
    damaged = bytearray(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged), 400) - 1))] = data.draw(
            st.integers(0, 255)
        )
    del damaged[
        data.draw(st.integers(0, len(damaged))) if data.draw(st.booleans()) else len(damaged) :
    ]
    try:
        pixels = read_tiff(bytes(damaged))
    except BadImage:
        return
    assert pixels.ndim == 3
    assert pixels.size <= MAX_VALUES
    assert pixels.dtype in (np.uint8, np.uint16)
