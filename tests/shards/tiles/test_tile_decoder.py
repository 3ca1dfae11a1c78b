"""The tile decoder: the pixels of decoding and resizing with Pillow, nearly, and nothing outside
its bounds.
"""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocess.images.geometry import ImageOptions, grey_interval, tile_interval
from preprocess.images.image import pack_image
from preprocess.jpeg.retile import retile
from shards.augment.crops import random_resized_crops
from shards.decode.decoder import Decoder, picture, resize_into
from shards.errors import SampleError
from shards.tiles.tile_decoder import TileDecoder
from tests.conftest import jpeg, photograph

SIZE = 48


def mild(width: int, height: int, seed: int = 0) -> Image.Image:
    """A photograph without black and white: libjpeg clamps samples before resizing, the tile
    decoder after.
    """
    pixels = np.asarray(photograph(width, height, seed)).astype(float)
    return Image.fromarray((60 + pixels * 0.5).astype(np.uint8))


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def tiled(image: Image.Image, interval=tile_interval, **options) -> np.ndarray:
    return as_array(retile(jpeg(image, **options), interval))


def plane(image: Image.Image, interval=grey_interval, **options) -> np.ndarray:
    """A further band: one grey plane."""
    return as_array(retile(jpeg(image.convert("L"), **options), interval, keep_grey=True))


def by_pillow(data: np.ndarray, box, size: int) -> np.ndarray:
    x, y, w, h = box
    colours = "GRAY" if simplejpeg.decode_jpeg_header(data)[2] == "Gray" else "RGB"
    return resized(simplejpeg.decode_jpeg(data, colours)[y : y + h, x : x + w], size)


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    image = picture(np.ascontiguousarray(pixels)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, -1).astype(int)


@st.composite
def boxes(draw):
    width, height = draw(st.integers(5, 260)), draw(st.integers(5, 200))
    w, h = draw(st.integers(1, width)), draw(st.integers(1, height))
    return width, height, (draw(st.integers(0, width - w)), draw(st.integers(0, height - h)), w, h)


@settings(max_examples=300, deadline=None)
@given(
    drawn=boxes(),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "grey", "one plane"]),
    interval=st.integers(1, 9),
    size=st.sampled_from([1, 31, 32, 48, 96]),
    quality=st.sampled_from([30, 75, 95]),
)
def test_crops_are_pillows(drawn, subsampling, interval, size, quality):
    width, height, box = drawn

    def wanted(across: int, down: int) -> int:
        return interval if across % interval == 0 else tile_interval(across, down)

    if subsampling == "grey":
        data = tiled(mild(width, height).convert("L"), wanted, quality=quality)
    elif subsampling == "one plane":
        data = plane(mild(width, height), wanted, quality=quality)
    else:
        data = tiled(mild(width, height), wanted, quality=quality, subsampling=subsampling)
    out, mirrored = np.empty((2, size, size, 1 if subsampling == "one plane" else 3), np.uint8)
    decoder = TileDecoder(size)
    assert decoder.crop_into(out, data, width, height, box, False)
    assert np.abs(out - by_pillow(data, box, size)).mean() < 1.2
    assert decoder.crop_into(mirrored, data, width, height, box, True)
    assert np.abs(mirrored[:, ::-1].astype(int) - out).max() <= 1


def test_what_was_decoded_before_changes_nothing():
    rng = np.random.default_rng(0)
    extents = ((40, 40), (700, 90), (33, 400), (320, 240))
    files = [
        (make(mild(w, h, w), quality=90), w, h, c)
        for make, c in ((tiled, 3), (plane, 1))
        for w, h in extents
    ]
    used = TileDecoder(SIZE)
    for _ in range(60):
        data, width, height, channels = files[rng.integers(len(files))]
        w, h = int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1))
        box = (int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1)), w, h)
        one, other = np.empty((2, SIZE, SIZE, channels), np.uint8)
        assert used.crop_into(one, data, width, height, box, False)
        assert TileDecoder(SIZE).crop_into(other, data, width, height, box, False)
        np.testing.assert_array_equal(one, other)


REFUSED = {
    "no tiles": jpeg(mild(96, 80)),
    "progressive": jpeg(mild(96, 80), progressive=True),
    "no list": jpeg(mild(96, 80), restart_marker_blocks=3),
    "grey": jpeg(mild(96, 80).convert("L")),
    "one plane": bytes(plane(mild(96, 80))),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_it_refuses_takes_the_ordinary_road(kind):
    data, box = as_array(REFUSED[kind]), (10, 7, 50, 60)
    ours, expected = np.empty((2, SIZE, SIZE, 3), np.uint8)
    assert not TileDecoder(SIZE).crop_into(ours, data, 96, 80, box, True)
    Decoder().crop_into(ours, data, 96, 80, box, True)
    resize_into(expected, Decoder().box(data, 96, 80, box), True)
    np.testing.assert_array_equal(ours, expected)


def test_colours_where_one_plane_is_wanted_are_refused():
    ours, expected = np.empty((2, SIZE, SIZE, 1), np.uint8)
    data, box = tiled(mild(96, 80)), (10, 7, 50, 60)
    assert not TileDecoder(SIZE).crop_into(ours, data, 96, 80, box, False)
    Decoder().crop_into(ours, data, 96, 80, box, False)
    resize_into(
        expected, np.ascontiguousarray(simplejpeg.decode_jpeg(data, "GRAY")[7:67, 10:60]), False
    )
    np.testing.assert_array_equal(ours, expected)


def test_another_size_is_refused_with_its_reason():
    data = tiled(mild(96, 80))
    with pytest.raises(SampleError, match="not a JPEG of the 80 x 96 pixels"):
        Decoder().crop_into(np.empty((SIZE, SIZE, 3), np.uint8), data, 80, 96, (0, 0, 9, 9), False)


@pytest.mark.parametrize(
    "box",
    [(-1, 0, 9, 9), (0, 0, 97, 9), (90, 0, 9, 9), (0, 0, 0, 9), (0, 78, 9, 3), (2**62, 0, 9, 9)],
)
def test_a_box_outside_the_image_is_refused(box):
    assert not TileDecoder(SIZE).crop_into(
        np.empty((SIZE, SIZE, 3), np.uint8), tiled(mild(96, 80)), 96, 80, box, False
    )


def test_real_photographs_come_nearer_to_pillow_than_half_a_grey_level(voc2012_root):
    for number, options in enumerate((ImageOptions(), ImageOptions(short_side=256))):
        errors, decoder = [], TileDecoder(224)
        for path in sorted((voc2012_root / "JPEGImages").iterdir())[number::120]:
            packed = pack_image(path.read_bytes(), options)
            sizes = np.array([packed.width]), np.array([packed.height])
            box = random_resized_crops(np.array([number]), *sizes, 0, 0, (0.08, 1.0))[0][0].tolist()
            out, data = np.empty((224, 224, 3), np.uint8), as_array(packed.images["jpg"])
            assert decoder.crop_into(out, data, packed.width, packed.height, box, False), path
            errors.append(np.abs(out - by_pillow(data, box, 224)).mean())
        assert np.mean(errors) < 0.5


TILED = [
    tiled(mild(w, h, w), quality=85, subsampling=s)
    for w, h, s in ((96, 80, 2), (97, 70, 1), (64, 90, 0))
]
TILED += [plane(mild(96, 80, 4), quality=85), plane(mild(97, 70, 5), quality=85)]
EXTENTS = [(96, 80), (97, 70), (64, 90), (96, 80), (97, 70)]


def fuzz(num_cases: int, seed: int = 0) -> dict[str, int]:
    """Decode damaged files: what is accepted has to be what libjpeg accepts, and to look as its
    pixels do.
    """
    rng = np.random.default_rng(seed)
    decoder, outs = (
        TileDecoder(SIZE),
        [np.empty((SIZE, SIZE, channels), np.uint8) for channels in (3, 3, 3, 1, 1)],
    )
    counts = {"refused": 0, "same": 0, "clamped": 0}
    for case in range(num_cases):
        number = case % len(TILED)
        data, (width, height), out = TILED[number].copy(), EXTENTS[number], outs[number]
        scan = bytes(data).index(b"\xff\xda")
        for _ in range(rng.integers(0, 4)):
            at = rng.integers(2, scan + 14) if rng.random() < 0.6 else rng.integers(len(data))
            data[at] = rng.choice(
                [0, 0xFF, 0xDA, 0xC4, data[at] ^ (1 << rng.integers(8)), rng.integers(256)]
            )
        if rng.random() < 0.2:
            data = data[: rng.integers(0, len(data) + 1)]
        w, h = int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1))
        box = (int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1)), w, h)
        if not decoder.crop_into(out, data, width, height, box, False):
            counts["refused"] += 1
            continue
        pixels = Decoder().box(data, width, height, box, out.shape[2])  # raises where libjpeg warns
        if np.abs(resized(pixels, SIZE) - out).mean() < 1.5:
            counts["same"] += 1
        else:  # wild coefficients: libjpeg clamps samples before they are resized
            assert ((pixels == 0) | (pixels == 255)).any(), (case, box)
            counts["clamped"] += 1
    return counts


@pytest.mark.slow
def test_damaged_files_are_refused_or_decoded_as_libjpeg_does():
    """With numba's bounds checks on. TARMAC_FUZZ_CASES makes it longer."""
    num_cases = int(os.environ.get("TARMAC_FUZZ_CASES", "3000"))
    script = f"from tests.shards.tiles.test_tile_decoder import fuzz; print(sorted(fuzz({num_cases}).items()))"
    env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = dict(eval(done.stdout))
    assert counts["refused"] > num_cases / 10
    assert counts["same"] > num_cases / 4
    assert counts["clamped"] < num_cases / 10


def test_an_ordinary_decoder_reads_what_the_tests_use():
    for data, extent in zip(TILED, EXTENTS, strict=True):
        with Image.open(io.BytesIO(bytes(data))) as image:
            assert image.size == extent
