"""Cutting tiles out of the compressed file gives the pixels of decoding it whole."""

import io
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocess.images.geometry import grey_interval, tile_interval
from preprocess.jpeg.retile import retile
from shards.decode.decoder import Decoder, resize_box_into, resize_into
from shards.errors import SampleError
from shards.tiles.cut import MISMATCH, WHOLE, cut_tiles
from tests.conftest import jpeg, photograph


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@st.composite
def boxes(draw):
    width, height = draw(st.integers(1, 150)), draw(st.integers(1, 110))
    w, h = draw(st.integers(1, width)), draw(st.integers(1, height))
    return width, height, (draw(st.integers(0, width - w)), draw(st.integers(0, height - h)), w, h)


@settings(max_examples=300, deadline=None)
@given(
    drawn=boxes(),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "grey", "one plane"]),
    interval=st.integers(0, 6),
    quality=st.sampled_from([20, 75, 95]),
)
def test_box_equals_decode_then_crop(drawn, subsampling, interval, quality):
    width, height, (x, y, w, h) = drawn
    image = photograph(width, height)
    if subsampling in ("grey", "one plane"):
        data = jpeg(image.convert("L"), quality=quality)
    else:
        data = jpeg(image, quality=quality, subsampling=subsampling)
    if interval:  # where it does not divide the row: as the packer tiles
        data = retile(
            data,
            lambda across, down: (
                interval if across % interval == 0 else tile_interval(across, down)
            ),
            keep_grey=subsampling == "one plane",
        )
    colours, channels = ("GRAY", 1) if subsampling == "one plane" else ("RGB", 3)
    whole = simplejpeg.decode_jpeg(data, colours)
    box = Decoder().box(as_array(data), width, height, (x, y, w, h), channels)
    np.testing.assert_array_equal(box, whole[y : y + h, x : x + w])


def test_a_crop_reads_only_its_tiles():
    data = as_array(retile(jpeg(photograph(320, 320), quality=90), tile_interval))
    out = np.empty(len(data) + 2, np.uint8)
    size, left, top, width, height = cut_tiles(data, 320, 320, 140, 140, 30, 30, out)
    assert 0 < size < len(data) / 4
    assert (width, height) == (64, 48)
    assert (left, top) == (140 - 128, 140 - 128)
    # an ordinary JPEG to another decoder, too
    with Image.open(io.BytesIO(out[:size].tobytes())) as image:
        assert image.size == (64, 48)
        image.load()


def test_the_whole_image_is_not_copied():
    data = as_array(retile(jpeg(photograph(64, 64)), tile_interval))
    assert cut_tiles(data, 64, 64, 0, 0, 64, 64, np.empty(len(data) + 2, np.uint8))[0] == WHOLE


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 3}, {}])
def test_what_has_no_tiles_is_decoded_whole(options):
    # 7 MCUs in a row: an interval of 3 does not divide them
    data = jpeg(photograph(112, 80), **options)
    assert (
        cut_tiles(as_array(data), 112, 80, 5, 5, 9, 9, np.empty(len(data) + 2, np.uint8))[0]
        == WHOLE
    )
    box = Decoder().box(as_array(data), 112, 80, (5, 5, 9, 9))
    np.testing.assert_array_equal(box, simplejpeg.decode_jpeg(data)[5:14, 5:14])


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\x89PNG" + bytes(50), jpeg(photograph(64, 48))]
)
def test_another_size_or_no_jpeg_is_refused_before_decoding(data):
    assert (
        cut_tiles(as_array(data), 48, 64, 0, 0, 9, 9, np.empty(len(data) + 2, np.uint8))[0]
        == MISMATCH
    )
    with pytest.raises(SampleError, match="not a JPEG of the 48 x 64 pixels"):
        Decoder().box(as_array(data), 48, 64, (0, 0, 9, 9))


def test_a_bomb_is_refused_before_decoding():
    data = bytearray(jpeg(photograph(64, 48)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = (60000).to_bytes(2, "big") * 2
    with pytest.raises(SampleError, match="not a JPEG"):
        Decoder().box(as_array(bytes(data)), 64, 48, (0, 0, 9, 9))


TILED = {
    ss: retile(jpeg(photograph(96, 80), quality=85, subsampling=ss), tile_interval)
    for ss in (0, 1, 2)
}
TILED[3] = retile(jpeg(photograph(96, 80).convert("L"), quality=85), grey_interval, keep_grey=True)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(
    subsampling=st.sampled_from([0, 1, 2, 3]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    length=st.one_of(st.none(), st.integers(0, 10**6)),
    box=st.tuples(st.integers(0, 80), st.integers(0, 64), st.integers(1, 16), st.integers(1, 16)),
)
def test_damage_is_refused_or_decoded_as_far_as_it_is_there(subsampling, changes, length, box):
    """No crash and no write out of bounds; the bytes after the used part of `out` stay untouched."""
    data = bytearray(TILED[subsampling])
    for at, value in changes:
        data[at % len(data)] = value
    if length is not None:
        data = data[: length % (len(data) + 1)]
    out = np.full(len(data) + 2 + 64, 171, np.uint8)
    size = cut_tiles(as_array(bytes(data)), 96, 80, *box, out[: len(data) + 2])[0]
    assert MISMATCH <= size <= len(data) + 2
    assert (out[len(data) + 2 :] == 171).all()
    try:
        pixels = Decoder().box(as_array(bytes(data)), 96, 80, box, 1 if subsampling == 3 else 3)
    except SampleError:
        return
    assert pixels.shape == (box[3], box[2], 1 if subsampling == 3 else 3)


@pytest.mark.slow
def test_bounds_are_kept_with_checks_on():
    """The compiled code runs without bounds checks; here once more with them, over thousands of
    damaged files.
    """
    script = """
import numpy as np
from tests.shards.tiles.test_cut import TILED
from shards.tiles.cut import cut_tiles
rng = np.random.default_rng(0)
for round_number in range(4000):
    data = np.frombuffer(TILED[round_number % 4], np.uint8).copy()
    for _ in range(rng.integers(0, 5)):
        at = rng.integers(0, 700 if rng.random() < 0.7 else len(data))
        data[at] = rng.choice([0, 0xFF, 0xDA, 0xC0, rng.integers(256)])
    data = data[: rng.integers(0, len(data) + 1)] if rng.random() < 0.5 else data
    x, y = rng.integers(0, 80), rng.integers(0, 64)
    cut_tiles(data, 96, 80, x, y, rng.integers(1, 97 - x), rng.integers(1, 81 - y), np.empty(len(data) + 2, np.uint8))
print("kept")
"""
    env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": "."}
    result = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=500
    )
    assert result.stdout.strip() == "kept", result.stderr[-2000:]


def test_training_resize_is_near_pillows_and_does_not_alias():
    pixels = np.asarray(photograph(300, 260))
    for size in (224, 150, 64):
        out = np.empty((size, size, 3), np.uint8)
        resize_into(out, pixels, mirror=False)
        pillow = np.asarray(
            Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
        ).astype(int)
        linear = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
        area = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
        errors = [np.abs(resized - pillow).mean() for resized in (out, linear, area)]
        if size == 150:  # shrunk by 2: the blur before the linear filter is nearer than both
            assert errors[0] < min(errors[1:])
        assert errors[0] < (4 if size == 224 else errors[1] / 2)
        mirrored = np.empty_like(out)
        resize_into(mirrored, pixels, mirror=True)
        np.testing.assert_array_equal(mirrored, out[:, ::-1])


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (97, 61), (200, 33), (20, 20)])
@pytest.mark.parametrize("share", [0.875, 1.0])
def test_evaluation_pixels_are_torchvisions(size, share):
    from torchvision.transforms import CenterCrop, Resize

    from shards.augment.crops import centre_crops

    data = retile(jpeg(photograph(*size), quality=90), tile_interval)
    with Image.open(io.BytesIO(data)) as image:
        expected = CenterCrop(64)(Resize(round(64 / share))(image))
    box = centre_crops(np.array([size[0]]), np.array([size[1]]), 64, share)[0]
    out = np.empty((64, 64, 3), np.uint8)
    resize_box_into(out, Decoder(), as_array(data), *size, box)
    difference = np.abs(out.astype(int) - np.asarray(expected))
    assert difference.mean() < 0.2
    assert difference.max() <= 3


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("width", range(49, 58))
def test_a_narrow_last_tile_keeps_its_chroma(width, subsampling):
    """Libjpeg smooths no chroma in images of up to 4 pixels across; a tile that narrow is never cut
    out alone.
    """
    rng = np.random.default_rng(width)
    image = Image.fromarray(rng.integers(0, 256, (40, width, 3), dtype=np.uint8))
    data = as_array(retile(jpeg(image, quality=90, subsampling=subsampling), lambda *_: 1))
    whole = simplejpeg.decode_jpeg(data)
    for x in range(width - 9, width):
        box = Decoder().box(data, width, 40, (x, 20, width - x, 3))
        np.testing.assert_array_equal(box, whole[20:23, x:])


def test_damage_inside_a_crop_is_refused_or_gives_what_decoding_it_all_gives():
    """What a flipped bit does to the pixels of a crop is what it does to them in the whole image,
    if it does any.
    """
    rng = np.random.default_rng(0)
    equal = refused = 0
    for number in range(2000):
        data = bytearray(TILED[number % 3])
        data[rng.integers(600, len(data) - 2)] ^= 1 << rng.integers(8)
        x, y = int(rng.integers(0, 64)), int(rng.integers(0, 48))
        try:
            box = Decoder().box(as_array(bytes(data)), 96, 80, (x, y, 32, 32))
        except SampleError:
            refused += 1
            continue
        wholes = (
            simplejpeg.decode_jpeg(each, strict=False) for each in (bytes(data), TILED[number % 3])
        )
        equal += any(np.array_equal(box, whole[y : y + 32, x : x + 32]) for whole in wholes)
    assert refused > 10
    assert equal + refused == 2000


def test_a_list_of_tiles_that_is_wrong_is_not_believed():
    """A changed length, or one tile too few: the image is decoded whole, and its pixels are right."""
    data = TILED[2]
    start = data.index(b"TILES") + 6
    whole = simplejpeg.decode_jpeg(data)
    for at in range(start, start + 2 * 10):
        changed = bytearray(data)
        changed[at] ^= 1
        box = Decoder().box(as_array(bytes(changed)), 96, 80, (40, 40, 20, 20))
        np.testing.assert_array_equal(box, whole[40:60, 40:60])
    short = (
        data[: start - 8]
        + (len("TILES\0") + 4).to_bytes(2, "big")
        + b"TILES\0"
        + bytes(2)
        + data[start + 2 * 10 :]
    )
    assert simplejpeg.decode_jpeg(short).shape == (80, 96, 3)
    assert (
        cut_tiles(as_array(short), 96, 80, 40, 40, 20, 20, np.empty(len(short) + 2, np.uint8))[0]
        == WHOLE
    )
