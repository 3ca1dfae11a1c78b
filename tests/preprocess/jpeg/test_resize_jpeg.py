"""Photographs at another size: as good as Pillow's, decoded strictly by all, of the same bits."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocess.images.geometry import ImageOptions, packed_size, tile_interval
from preprocess.images.image import pack_image
from preprocess.images.image_check import what_is_wrong
from preprocess.jpeg import resize_jpeg as resizing
from preprocess.jpeg.forward import quantisers
from preprocess.jpeg.jpeg_scan import open_jpeg
from preprocess.jpeg.lanczos import axis_weights
from preprocess.jpeg.resize_jpeg import Output, encode_rgb
from preprocess.jpeg.tile_file import Tiled
from shards.tiles.tile_decoder import TileDecoder
from tests.conftest import jpeg, photograph

GOLDEN = Path(__file__).parents[2] / "golden"
LANCZOS = Image.Resampling.LANCZOS
MARGIN = 0.2  # dB below a resize and an encoding by Pillow that the mean of photographs may be
DIGEST = "24a9545fec72f1d0b494f7f64ba625c9907a34fbd629a82fa81a45e2a16ff8c8"


def resize_jpeg(data: bytes, output: Output) -> Tiled | None:
    opened = open_jpeg(data)
    return None if opened is None else resizing.resize_jpeg(opened, output)


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, np.mean((image.astype(float) - other) ** 2)))


def decoded(data: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, "RGB", strict=True)


def compared(data: bytes, side: int, quality: int) -> tuple[float, float, float]:
    """Return PSNR against LANCZOS of the full decode: from coefficients, from pixels, Pillow's."""
    pixels = decoded(data)
    size = packed_size(pixels.shape[1::-1], ImageOptions(short_side=side))
    best = Image.fromarray(pixels).resize(size, LANCZOS)
    file = io.BytesIO()
    best.save(file, "JPEG", quality=quality)
    output = Output(*size, quality, tile_interval)
    encoded = resize_jpeg(data, output), encode_rgb(pixels, output)
    for tiled in encoded:
        assert len(tiled.data) < 1.05 * len(file.getvalue()) + 400
    files = (encoded[0].data, encoded[1].data, file.getvalue())
    return tuple(psnr(decoded(one), np.asarray(best)) for one in files)


def check_quality(files: list[bytes], side: int, quality: int) -> None:
    of_scan, of_pixels, of_pillow = np.mean([compared(one, side, quality) for one in files], 0)
    assert of_scan > of_pillow - MARGIN
    assert of_pixels > of_pillow - MARGIN


def test_real_photographs_are_as_good_as_pillows(voc2012_root):
    paths = sorted((voc2012_root / "JPEGImages").glob("*.jpg"))[::60]
    check_quality([path.read_bytes() for path in paths], 256, 90)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("side", [24, 57, 119])
def test_synthetic_photographs_are_as_good_as_pillows(side, subsampling):
    rng = np.random.default_rng(side)
    files = []
    for number in range(8):
        noisy = np.asarray(photograph(180, 120, number)).astype(float)
        noisy += rng.normal(0, 4, noisy.shape)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        files.append(jpeg(image, quality=95, subsampling=subsampling))
    check_quality(files, side, 90)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 200),
    share=st.floats(0.01, 1),
    subsampling=st.sampled_from([0, 1, 2, None]),
    restart=st.sampled_from([{}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 7}]),
)
@example(1, 1, 1.0, 2, {})
@example(17, 1, 0.5, 2, {})
@example(300, 200, 0.01, 1, {"restart_marker_blocks": 7})
def test_every_size_decodes_to_what_was_meant(width, height, share, subsampling, restart):
    image = photograph(width, height)
    options = {"subsampling": subsampling}
    if subsampling is None:
        image, options = image.convert("L"), {}
    data = jpeg(image, quality=95, **options, **restart)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    output = Output(*size, 92, tile_interval)
    for tiled in (resize_jpeg(data, output), encode_rgb(decoded(data), output)):
        pixels = decoded(tiled.data)
        assert pixels.shape == (size[1], size[0], 3)
        with Image.open(io.BytesIO(tiled.data)) as opened:
            np.testing.assert_array_equal(np.asarray(opened), pixels)
        assert what_is_wrong(np.frombuffer(tiled.data, np.uint8), "jpg", *size) is None
        best = Image.fromarray(decoded(data)).resize(size, LANCZOS)
        luma = np.asarray(best.convert("L")).astype(int) - Image.fromarray(pixels).convert("L")
        assert np.abs(luma).mean() < 5  # chroma is halved
        means = np.array(tiled.sums[:3]) / pixels[..., 0].size
        np.testing.assert_allclose(means, pixels.mean((0, 1)), atol=8)  # before encoding


def test_the_tile_decoder_reads_them():
    data = jpeg(photograph(500, 375), quality=95)
    tiled = resize_jpeg(data, Output(336, 256, 90, tile_interval))
    out = np.empty((128, 128, 3), np.uint8)
    file = np.frombuffer(tiled.data, np.uint8)
    assert TileDecoder(128).crop_into(out, file, 336, 256, (40, 30, 200, 180), False)
    box = Image.fromarray(decoded(tiled.data)).crop((40, 30, 240, 210))
    best = np.asarray(box.resize((128, 128), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(best - out).mean() < 1.5


def test_restart_markers_in_the_source_change_nothing():
    image, output = photograph(200, 150), Output(96, 72, 90, tile_interval)
    plain = resize_jpeg(jpeg(image), output)
    for number in (1, 3, 13, 50):
        assert resize_jpeg(jpeg(image, restart_marker_blocks=number), output) == plain


@pytest.mark.parametrize(
    "data",
    [
        jpeg(photograph(64, 64), progressive=True),
        jpeg(photograph(64, 64).convert("CMYK")),
        jpeg(photograph(64, 64), keep_rgb=True),
        jpeg(photograph(64, 64))[:-200],
        jpeg(photograph(64, 64))[:-200] + b"\xff\xd9",
        b"",
    ],
    ids=["progressive", "CMYK", "stored as RGB", "truncated", "cut", "empty"],
)
def test_what_needs_another_decoder_is_left_to_it(data):
    assert resize_jpeg(data, Output(32, 32, 90, tile_interval)) is None


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 90, 100])
def test_quantisation_tables_are_those_of_libjpeg(quality):
    with Image.open(io.BytesIO(jpeg(photograph(16, 16), quality=quality))) as image:
        assert [list(table) for table in quantisers(quality)] == list(image.quantization.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.floats(0.02, 1))
def test_weights_are_those_of_pillow(size, share):
    """Of a line that is black but for one sample, resized by both."""
    num_out = max(1, round(size * share))
    luma, _ = axis_weights(size, num_out, False)
    line = np.random.default_rng(size).random((1, size)).astype(np.float32)
    expected = np.asarray(Image.fromarray(line).resize((num_out, 1), LANCZOS))[0]
    rows = luma.weights.reshape(-1, luma.taps)
    for out, (first, count) in enumerate(luma.spans[:num_out]):
        value = rows[out, :count] @ line[0, first : first + count]
        assert abs(value - expected[out]) < 1e-3


def test_what_is_not_looked_at_has_to_be_whole():
    """The lowest rows of a tall photograph, as the rest."""
    data = bytearray(jpeg(photograph(64, 2000), quality=90))
    data[-40:-2] = bytes(38)
    assert resize_jpeg(bytes(data), Output(1, 30, 90, tile_interval)) is None


def test_memory_follows_the_width_and_not_the_area(monkeypatch):
    """A strip, a few lines of the filter and a group of rows, whatever the height."""
    scratch = type(resizing._SCRATCH)()
    monkeypatch.setattr(resizing, "_SCRATCH", scratch)
    image = Image.new("RGB", (160, 20_000), (90, 120, 60))
    assert resize_jpeg(jpeg(image, quality=30), Output(150, 18_750, 30, tile_interval)) is not None
    kept = {name: array.nbytes for name, array in scratch._arrays.items()}
    floats = {name: kept[name] for name in ("lines", "coefs", "planes", "coefficients")}
    assert max(floats.values()) < 1 << 20  # all rows of "lines" alone would be 19 MB


def test_what_was_resized_before_changes_nothing(monkeypatch):
    """Scratch memory is kept by size, and grows in between."""
    sizes = [(90, 70), (300, 40), (40, 300), (90, 70), (700, 500), (300, 40)]
    jobs = [(jpeg(photograph(*size, seed)), size) for seed, size in enumerate(sizes)]

    def resized(job: tuple[bytes, tuple[int, int]]) -> bytes:
        data, (width, height) = job
        tiled = resize_jpeg(data, Output(width // 2, height // 2, 90, tile_interval))
        assert tiled is not None
        return tiled.data

    together = [resized(job) for job in [*jobs, *jobs[::-1]]]
    for job, first, again in zip(jobs, together, together[::-1], strict=False):
        monkeypatch.setattr(resizing, "_SCRATCH", type(resizing._SCRATCH)())
        assert first == again == resized(job)


def test_the_bits_are_the_same_as_ever():
    """On every CPU, as tests/emulated shows."""
    digest = hashlib.sha256()
    noise = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    files = [path.read_bytes() for path in sorted((GOLDEN / "photographs").iterdir())]
    for width, height, quality in ((40, 31, 90), (13, 33, 75)):
        output = Output(width, height, quality, tile_interval)
        encoded = [encode_rgb(noise, output), *(resize_jpeg(file, output) for file in files)]
        assert sum(tiled is None for tiled in encoded) == 1  # the progressive one
        digest.update(repr([(one.data, one.sums) for one in encoded if one]).encode())
    assert digest.hexdigest() == DIGEST


def test_packing_takes_the_short_way_for_baseline_and_the_long_one_for_the_rest(monkeypatch):
    """The long one decodes to pixels, which Pillow and libjpeg do."""
    options = ImageOptions(short_side=48)
    decodings = []
    real = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *args, **how: decodings.append(1) or real(*args, **how)
    )
    image = photograph(120, 90)
    baseline = pack_image(jpeg(image, quality=92), options)
    assert not decodings
    progressive = pack_image(jpeg(image, quality=92, progressive=True), options)
    assert decodings
    difference = decoded(baseline.images["jpg"]).astype(int) - decoded(progressive.images["jpg"])
    assert np.abs(difference).mean() < 2
