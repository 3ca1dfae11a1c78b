"""Packed images: what comes in, what goes out, and what is refused with which reason."""

import io
import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from preprocess.images.geometry import ImageOptions, packed_size, tile_interval
from preprocess.images.image import MAX_PIXELS, BadImage, pack_image
from shards.disk.format import MAX_TILES
from shards.errors import DataError

KEEP = ImageOptions()


def scene(width=96, height=64, seed=0):
    """Return a smooth asymmetric RGB image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(image, file_format="JPEG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **settings)
    return buffer.getvalue()


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def segments(data):
    """Return [(marker, payload)] of a JPEG up to its scan, and the restart markers inside the scan."""
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    found, at = [], 2
    while True:
        assert data[at] == 0xFF
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + length
        if marker == 0xDA:
            scan = data[at:-2]
            return (
                found,
                [(i, b) for i, (a, b) in enumerate(pairwise(scan)) if a == 0xFF and b != 0],
                len(scan),
            )


def check_tiled(packed, mcu=(16, 16)):
    found, restarts, size = segments(packed.images["jpg"])
    markers = [marker for marker, _ in found]
    # baseline, and no metadata but JFIF and tiles
    assert set(markers) <= {0xE0, 0xE9, 0xDB, 0xC0, 0xC4, 0xDD, 0xDA}
    across, down = -(-packed.width // mcu[0]), -(-packed.height // mcu[1])
    interval = tile_interval(across, down)
    assert int.from_bytes(dict(found)[0xDD], "big") == interval
    assert [marker for _, marker in restarts] == [
        0xD0 + i % 8 for i in range(across * down // interval - 1)
    ]
    starts = [0, *(at + 2 for at, _ in restarts)]
    ends = [*(at for at, _ in restarts), size]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    assert dict(found)[0xE9] == b"TILES\0" + struct.pack(f">{len(lengths)}H", *lengths)
    height, width = struct.unpack(">HH", dict(found)[0xC0][1:5])
    assert (width, height) == (packed.width, packed.height)
    np.testing.assert_array_equal(
        pixels(opened(packed.images["jpg"])), simplejpeg.decode_jpeg(packed.images["jpg"])
    )


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_at_its_size_keeps_tables_and_subsampling(subsampling):
    data = saved(
        scene(500, 375), quality=83, subsampling=subsampling, progressive=True, comment=b"hello"
    )
    packed = pack_image(data, ImageOptions(quality=20))
    before, after = opened(data), opened(packed.images["jpg"])
    assert after.quantization == before.quantization
    assert [layer[1:3] for layer in after.layer] == [layer[1:3] for layer in before.layer]
    np.testing.assert_array_equal(pixels(after), pixels(before))
    check_tiled(packed, {0: (8, 8), 1: (16, 8), 2: (16, 16)}[subsampling])


def test_packing_twice_changes_nothing_more():
    once = pack_image(saved(scene(320, 240), quality=75), KEEP)
    twice = pack_image(once.images["jpg"], KEEP)
    assert (
        np.abs(pixels(opened(once.images["jpg"])) - pixels(opened(twice.images["jpg"]))).max() <= 2
    )
    assert abs(len(twice.images["jpg"]) - len(once.images["jpg"])) < 0.01 * len(once.images["jpg"])


@pytest.mark.parametrize("options", [KEEP, ImageOptions(short_side=48), ImageOptions(max_side=50)])
@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_formats(file_format, options):
    packed = pack_image(saved(scene(), file_format), options)
    assert (packed.width, packed.height) == packed_size((96, 64), options)
    assert (
        np.abs(
            pixels(opened(packed.images["jpg"]))
            - pixels(scene().resize((packed.width, packed.height)))
        ).mean()
        < 8
    )
    check_tiled(packed)


def test_sums_are_exact_and_near_those_of_the_decoded_image():
    packed = pack_image(saved(scene(), "PNG"), KEEP)
    expected = pixels(scene()).reshape(-1, 3)
    assert packed.pixel_sum == tuple(expected.sum(axis=0).tolist())
    assert packed.pixel_sum_squares == tuple((expected**2).sum(axis=0).tolist())
    decoded = pixels(opened(packed.images["jpg"])).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(np.array(packed.pixel_sum) / len(expected), decoded, atol=1)


@pytest.mark.parametrize("options", [KEEP, ImageOptions(short_side=32)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, file_format, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(scene(), file_format, exif=exif)
    expected = ImageOps.exif_transpose(opened(data))
    assert (expected.width > expected.height) == (orientation < 5)
    packed = pack_image(data, options)
    size = packed_size(expected.size, options)
    assert (packed.width, packed.height) == size
    assert np.abs(pixels(opened(packed.images["jpg"])) - pixels(expected.resize(size))).mean() < 6


def test_damaged_exif_is_no_reason_to_lose_a_photograph():
    data = saved(scene(), exif=b"Exif\0\0II*\0\xff\xff\xff\xffrubbish")
    assert pack_image(data, KEEP).width == 96


GREY = np.tile(np.linspace(0, 65535, 96).astype(np.uint16), (64, 1))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(scene().convert("L"), "PNG"), scene().convert("L")),
        (saved(scene().convert("L")), scene().convert("L")),
        (saved(scene().convert("1"), "PNG"), scene().convert("1")),
        (saved(scene().quantize(64), "PNG"), scene().quantize(64)),
        (saved(scene().convert("CMYK")), scene()),
        (saved(scene().convert("CMYK"), "TIFF"), scene()),
        (saved(scene().convert("YCbCr"), "TIFF"), scene()),
        (saved(Image.fromarray(GREY), "PNG"), Image.fromarray((GREY >> 8).astype(np.uint8))),
        (saved(Image.fromarray(GREY), "TIFF"), Image.fromarray((GREY >> 8).astype(np.uint8))),
        (saved(scene(), keep_rgb=True), scene()),
    ],
    ids=[
        "L png",
        "L jpeg",
        "1",
        "P",
        "CMYK jpeg",
        "CMYK tiff",
        "YCbCr",
        "16 png",
        "16 tiff",
        "RGB jpeg",
    ],
)
def test_modes(data, expected):
    packed = pack_image(data, ImageOptions(quality=95))
    decoded = opened(packed.images["jpg"])
    assert decoded.mode == "RGB"
    tolerance = 12 if expected.mode in ("1", "P") else 5
    assert np.abs(pixels(decoded) - pixels(expected)).mean() < tolerance
    # grows empty chroma planes of its own size
    retiled_grey = data[:2] == b"\xff\xd8" and expected.mode == "L"
    check_tiled(packed, mcu=(8, 8) if retiled_grey else (16, 16))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_white(mode):
    image = Image.new("RGBA", (64, 64), (10, 10, 10, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    data = saved(image.quantize(4) if mode == "P" else image.convert(mode), "PNG")
    decoded = pixels(opened(pack_image(data, KEEP).images["jpg"]))
    assert decoded[:, :24].min() > 245
    assert decoded[:, 40:].max() < 20


def png_header(width, height):
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10) + b"IDAT" + bytes(14)


def jpeg_header(width, height):
    data = saved(scene())
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize("size", [(60000, 60000), (12000, 10000), (10001, 10000)])
@pytest.mark.parametrize("header", [png_header, jpeg_header])
def test_bombs_are_refused_by_their_header(header, size):
    with pytest.raises(BadImage, match=f"more than {MAX_PIXELS:,} pixels"):
        pack_image(header(*size), KEEP)


def test_a_side_too_long_for_jpeg():
    with pytest.raises(BadImage, match="65600 x 1 has a side over 65500"):
        pack_image(saved(Image.new("RGB", (65600, 1)), "PNG"), KEEP)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated(file_format, share):
    data = saved(scene(300, 200), file_format)
    with pytest.raises(BadImage) as caught:
        pack_image(data[: int(len(data) * share)], KEEP)
    reason = str(caught.value)
    assert reason
    assert "\n" not in reason
    assert "BytesIO" not in reason


@pytest.mark.parametrize("options", [KEEP, ImageOptions(short_side=64)])
def test_reason_of_a_truncated_jpeg(options):
    data = saved(scene(300, 200))
    with pytest.raises(BadImage, match="truncated"):
        pack_image(data[: len(data) // 2], options)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>not found</html>", "not one of JPEG"),
        (saved(Image.new("F", (8, 8)), "TIFF"), "mode F"),
        (saved(scene(), "PPM"), "not one of JPEG"),
    ],
)
def test_no_photograph(data, reason):
    with pytest.raises(BadImage, match=reason):
        pack_image(data, KEEP)


@given(st.binary(max_size=200), st.integers(0, 600))
def test_hostile_bytes_are_bad_images_or_pack(noise, at):
    data = saved(scene(), quality=50)
    at = min(at, len(data))
    try:
        packed = pack_image(data[:at] + noise + data[at + len(noise) :], KEEP)
    except BadImage:
        return
    opened(packed.images["jpg"])


def test_noise_at_full_quality_has_room():
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), np.uint8)
    packed = pack_image(saved(Image.fromarray(noise), quality=100, subsampling=0), KEEP)
    assert len(packed.images["jpg"]) > 1600 * 900 * 2
    check_tiled(packed, (8, 8))


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 16), (17, 100), (1000, 2)])
@pytest.mark.parametrize("options", [KEEP, ImageOptions(short_side=2), ImageOptions(max_side=9)])
def test_small_and_thin(size, options):
    check_tiled(pack_image(saved(Image.new("RGB", size, (200, 10, 60)), "PNG"), options))


@given(st.integers(1, 5000))
def test_tile_interval_divides_the_row(mcus):
    interval = tile_interval(mcus)
    assert mcus % interval == 0
    assert interval == mcus or 1 < interval <= max(8, mcus // 8)


@pytest.mark.parametrize(
    ("across", "down", "wanted"), [(512, 384, 8), (512, 8192, 256), (509, 8192, 509), (32, 24, 4)]
)
def test_tiles_are_never_more_than_can_be_listed(across, down, wanted):
    assert tile_interval(across, down) == wanted
    assert across // wanted * down <= MAX_TILES


def test_tile_interval_examples():
    wanted = {
        1: 1,
        2: 2,
        4: 4,
        6: 3,
        7: 7,
        10: 5,
        12: 4,
        15: 5,
        21: 3,
        22: 2,
        23: 23,
        24: 4,
        32: 4,
        143: 11,
    }
    assert {mcus: tile_interval(mcus) for mcus in wanted} == wanted


@given(st.integers(1, 8000), st.integers(1, 8000), st.integers(0, 600), st.booleans())
def test_packed_size(width, height, side, is_short):
    options = ImageOptions(short_side=side) if is_short else ImageOptions(max_side=side)
    new_width, new_height = packed_size((width, height), options)
    assert 1 <= new_width <= width
    assert 1 <= new_height <= height
    old_side = min(width, height) if is_short else max(width, height)
    if side == 0 or side >= old_side:
        assert (new_width, new_height) == (width, height)
        return
    ratio = side / old_side
    assert abs(new_width - width * ratio) <= max(1, 0.016 * width * ratio)
    assert abs(new_height - height * ratio) <= 1
    if is_short:
        assert min(new_width, new_height) >= side
    else:
        assert max(new_width, new_height) <= side


def test_usual_photographs_tile_well():
    assert packed_size((500, 375), ImageOptions(short_side=256)) == (336, 256)
    assert packed_size((375, 500), ImageOptions(short_side=256)) == (256, 341)
    assert packed_size((500, 333), ImageOptions(short_side=256)) == (384, 256)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_side": -1},
        {"short_side": 70000},
        {"quality": 0},
        {"quality": 101},
        {"max_side": 9, "short_side": 9},
    ],
)
def test_options_out_of_range(settings):
    with pytest.raises(DataError, match="--" + next(iter(settings)).replace("_", "-")):
        ImageOptions(**settings)


@pytest.mark.parametrize("options", [KEEP, ImageOptions(short_side=256)])
def test_real_photographs(voc2012_root, options):
    for path in sorted((voc2012_root / "JPEGImages").iterdir())[::100]:
        data = path.read_bytes()
        packed = pack_image(data, options)
        assert len(packed.images["jpg"]) < 1.03 * len(data)
        found, *_ = segments(packed.images["jpg"])
        assert 0xDD in dict(found)
        np.testing.assert_array_equal(
            pixels(opened(packed.images["jpg"])), simplejpeg.decode_jpeg(packed.images["jpg"])
        )
