"""Reading and writing scans: optimal codes as the standard finds them, damage, restart markers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.images.geometry import tile_interval
from preprocess.jpeg import scan_coding
from preprocess.jpeg.jpeg_scan import open_jpeg
from preprocess.jpeg.retile import retile, tile
from preprocess.jpeg.tile_file import Tiled, new_coding
from tests.conftest import jpeg, photograph
from tests.preprocess.jpeg.test_progressive import check_bounds, equal_if_sound

FUZZ = "import sys; from tests.preprocess.jpeg.test_scan_coding import fuzz; fuzz(int(sys.argv[1]))"


def sizes_of_the_standard(frequencies: list[int]) -> list[int]:
    """T.81 figure K.1, word for word: of symbols that are equally rare the last goes first."""
    freq, size, others = [*frequencies, 1], [0] * 257, [-1] * 257
    while True:
        found = sorted((freq[i], -i) for i in range(257) if freq[i])
        if len(found) < 2:
            return size
        first, second = -found[0][1], -found[1][1]
        freq[first] += freq[second]
        freq[second] = 0
        for start in (first, second):
            at = start
            size[at] += 1
            while others[at] >= 0:
                at = others[at]
                size[at] += 1
            if start == first:
                others[at] = second


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3) | st.integers(0, 10**9), min_size=1, max_size=256))
def test_codes_are_those_of_the_standard(frequencies):
    frequencies += [0] * (256 - len(frequencies))
    coding = new_coding()
    scan_coding._find_sizes(np.array([*frequencies, 0], np.int64), coding)
    assert coding.size.tolist() == sizes_of_the_standard(frequencies)


@given(st.lists(st.integers(0, 10**9), min_size=256, max_size=256))
def test_codes_are_a_prefix_code_of_at_most_16_bits(frequencies):
    frequencies[7] = 1 << 40
    coding = new_coding()
    end = scan_coding._make_codes(np.array([*frequencies, 0], np.int64), coding, 2)
    lengths = coding.codes[2] >> 16
    assert (lengths[np.array(frequencies) > 0] > 0).all()
    assert end == 16 + np.count_nonzero(frequencies)
    assert lengths.max() <= 16
    assert sum(2.0 ** -int(length) for length in lengths if length) < 1  # all ones are no code


def test_huffman_tables_in_turn_are_each_read_as_if_alone():
    """More of them than are kept from one photograph to the next."""
    images = [jpeg(photograph(40, 40, seed), optimize=True, quality=60 + seed) for seed in range(6)]
    images.append(jpeg(photograph(40, 40)))
    tables = [open_jpeg(data).headers.ac[0] for data in images]
    assert len(set(tables)) == len(images)
    for data in [*images, *images[::-1], *images]:
        tiled = retile(data, tile_interval)
        assert tiled is not None
        assert (simplejpeg.decode_jpeg(tiled) == simplejpeg.decode_jpeg(data)).all()


@pytest.mark.parametrize("restart", [{"restart_marker_blocks": n} for n in (1, 2, 7, 48)] + [{}])
@pytest.mark.parametrize("subsampling", [0, 1, 2, None])
def test_restart_markers_change_nothing(subsampling, restart):
    image = photograph(130, 70)
    options = {"quality": 85, "subsampling": subsampling}
    if subsampling is None:
        image, options = image.convert("L"), {"quality": 85}
    assert retile(jpeg(image, **options, **restart), tile_interval) == retile(
        jpeg(image, **options), tile_interval
    )


@pytest.mark.parametrize("change", ["missing", "twice", "another", "a byte before"])
def test_restart_markers_out_of_order_are_damage(change):
    data = jpeg(photograph(130, 70), restart_marker_blocks=5)
    at = data.index(b"\xff\xd3")
    marks = {"missing": b"", "twice": b"\xff\xd3\xff\xd3", "another": b"\xff\xd4"}
    marks["a byte before"] = b"\x12\x34\x56\x78\x9a\xff\xd3"
    assert retile(data[:at] + marks[change] + data[at + 2 :], tile_interval) is None


def test_a_level_beyond_8_bits_is_no_photograph():
    """Of samples of 8 bits no DC level is so high: three differences of 1,000 after one another."""
    flat = jpeg(photograph(64, 8).convert("L"), quality=100)
    at = flat.index(b"\xff\xc4")
    assert retile(flat, tile_interval) is not None
    tables = (
        b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\x0a" + b"\xff\xc4\0\x14\x10\1" + bytes(15) + b"\0"
    )
    scan = flat.index(b"\xff\xda")
    start = flat[:at] + tables + flat[scan : scan + 10]

    def coded(values: list[int]) -> bytes:
        """A code of a bit, 0, then ten bits, then an end of block of a bit, 0."""
        text = "".join(f"0{value if value > 0 else value + 1023:010b}0" for value in values)
        text += "1" * (-len(text) % 8)
        packed = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
        return packed.replace(b"\xff", b"\xff\0")

    fine, high = [600, -600] * 4, [600, 600, -600, 600, -600, 600, -600, 600]
    assert retile(start + coded(fine) + b"\xff\xd9", tile_interval) is not None
    assert retile(start + coded(high) + b"\xff\xd9", tile_interval) is None


@pytest.mark.parametrize("subsampling", [0, 1, 2, None])
@pytest.mark.parametrize("size", [(1, 1), (7, 100), (31, 33), (130, 70), (257, 65)])
def test_sums_are_near_those_of_another_decoder(size, subsampling):
    image = photograph(*size)
    options = {} if subsampling is None else {"subsampling": subsampling}
    data = jpeg(image if options else image.convert("L"), quality=95, **options)
    tiled = tile(open_jpeg(data), tile_interval, False, True)
    pixels = simplejpeg.decode_jpeg(tiled.data, "RGB", fastupsample=True).reshape(-1, 3).astype(int)
    expected = np.concatenate([pixels.mean(0), (pixels**2).mean(0)])
    np.testing.assert_allclose(np.array(tiled.sums) / len(pixels), expected, atol=0.6, rtol=0.004)


def tile_or_none(data: bytes) -> Tiled | None:
    opened = open_jpeg(data)
    return None if opened is None else tile(opened, tile_interval, False, True)


def fuzz(cases: int) -> None:
    """Damage files; raise AssertionError where one is taken but not to the pixels that it has."""
    check_bounds()
    rng, accepted = np.random.default_rng(0), 0
    whole = [
        jpeg(photograph(48, 40), quality=80, subsampling=n % 3, restart_marker_blocks=n)
        for n in range(6)
    ]
    whole.append(jpeg(photograph(40, 40).convert("L"), quality=50))
    for case in range(cases):
        data = bytearray(whole[case % len(whole)])
        for at in rng.integers(2, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256) if rng.random() < 0.5 else data[at] ^ 1 << rng.integers(8)
        if rng.random() < 0.1:
            data = data[: rng.integers(len(data))] + b"\xff\xd9"
        tiled = tile_or_none(bytes(data))
        if tiled is not None:
            accepted += equal_if_sound(bytes(data), tiled.data)
    print(accepted, "equal")
    assert accepted > cases / 50


@pytest.mark.slow
def test_damage_gives_no_other_pixels_and_reads_nothing_outside(tmp_path):
    """With numba's bounds checks on, compiled into a folder of their own."""
    env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", FUZZ, "3000"], cwd=root, env=env, check=True, timeout=300)
