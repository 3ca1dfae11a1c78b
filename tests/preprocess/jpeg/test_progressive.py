"""JPEGs of several scans, progressive or not, get tiles without a second generation too."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocess.images.geometry import ImageOptions, tile_interval
from preprocess.images.image import pack_image
from preprocess.jpeg import retile as retiling
from preprocess.jpeg import tile_file
from preprocess.jpeg.block_tokens import say_blocks
from preprocess.jpeg.jpeg_scan import tokens_for
from preprocess.jpeg.retile import retile
from preprocess.jpeg.scratch import KeptArrays
from shards.scans import progressive
from tests.conftest import jpeg, photograph

SAMPLINGS = ["4:4:4", "4:2:2", "4:2:0", "grey"]
TABLES, FRAME, SCANS = KINDS = (0xDB,), (0xC0, 0xC2), (0xC4, 0xDA, 0xDD)  # markers
FUZZ = "import sys; from tests.preprocess.jpeg.test_progressive import fuzz; fuzz(int(sys.argv[1]), int(sys.argv[2]))"


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def check_same_pixels(data: bytes) -> bytes:
    tiled = retile(data, tile_interval)
    assert tiled is not None
    np.testing.assert_array_equal(
        simplejpeg.decode_jpeg(tiled), simplejpeg.decode_jpeg(data, "RGB")
    )
    np.testing.assert_array_equal(pixels(tiled), pixels(data))
    return tiled


def segments(data: bytes) -> list[bytes]:
    """Cut a file between SOI and EOI into its segments, scans with what is entropy-coded."""
    marker, parts, at = re.compile(rb"\xff[^\x00\xd0-\xd7]"), [], 2
    while data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == 0xDA:
            end = marker.search(data, end).start()
        parts.append(data[at:end])
        at = end
    return parts


def joined(parts: list[bytes]) -> bytes:
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


def not_interleaved(width: int, height: int, factors: list[tuple[int, int]], **options) -> bytes:
    """Make a file each of whose components has tables and scans to itself: it was a grey file
    before.
    """
    widest, tallest = (max(side) for side in zip(*factors, strict=True))
    frame, scans = b"", []
    for number, (h, v) in enumerate(factors, 1):
        plane = photograph(-(-width * h // widest), -(-height * v // tallest), number).convert("L")
        parts = {
            kind: [part for part in segments(jpeg(plane, **options)) if part[1] in kind]
            for kind in KINDS
        }
        tables, (start,) = parts[TABLES], parts[FRAME]
        frame += bytes([number, h << 4 | v, 0])
        scans += [
            part[:5] + bytes([number]) + part[6:] if part[1] == 0xDA else part
            for part in parts[SCANS]
        ]
    size = height.to_bytes(2) + width.to_bytes(2)
    return joined([*tables, start[:2] + b"\0\x11\x08" + size + b"\3" + frame, *scans])


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 140),
    height=st.integers(1, 90),
    quality=st.integers(1, 100),
    sampling=st.sampled_from(SAMPLINGS),
    restart=st.sampled_from(
        [{}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 5}, {"restart_marker_rows": 1}]
    ),
)
@example(1, 1, 90, "4:2:0", {})
@example(17, 9, 90, "4:2:2", {"restart_marker_rows": 1})
@example(33, 65, 90, "4:2:0", {"restart_marker_blocks": 1})
def test_a_progressive_file_becomes_what_a_baseline_one_does(
    width, height, quality, sampling, restart
):
    """Pillow gives both the same coefficients, so that all bytes are equal, those of padding blocks
    included.
    """
    image = photograph(width, height)
    options = {"quality": quality, "subsampling": sampling}
    if sampling == "grey":
        image, options = image.convert("L"), {"quality": quality}
    tiled = check_same_pixels(jpeg(image, progressive=True, **options, **restart))
    assert tiled == retile(jpeg(image, **options), tile_interval)


@pytest.mark.parametrize("size", [(1, 1), (17, 9), (33, 65), (64, 48)], ids=str)
@pytest.mark.parametrize(
    "factors",
    [[(1, 1)] * 3, [(2, 1), (1, 1), (1, 1)], [(2, 2), (1, 1), (1, 1)], [(1, 2), (1, 1), (1, 1)]],
    ids=str,
)
@pytest.mark.parametrize("restart", [{}, {"restart_marker_blocks": 3}], ids=["", "restarts"])
@pytest.mark.parametrize("progressive", [False, True], ids=["sequential", "progressive"])
def test_components_with_scans_of_their_own(size, factors, restart, progressive):
    """Such scans leave out padding blocks; the tables change between them."""
    data = not_interleaved(*size, factors, quality=70, progressive=progressive, **restart)
    assert sum(part[1] == 0xDA for part in segments(data)) == (18 if progressive else 3)
    check_same_pixels(data)


@pytest.mark.parametrize(
    "keep", ["fewer", "one twice", "another order", "no EOI", "tables between"]
)
def test_scans_that_do_not_fit_together_are_left_to_others(keep):
    """Of a file that lacks bits decoders smooth the blocks; the rest is damage that libjpeg at
    least warns of.
    """
    parts = segments(jpeg(photograph(64, 48), progressive=True))
    scans = [number for number, part in enumerate(parts) if part[1] == 0xDA]
    changed = {
        "fewer": [parts[:number] for number in scans]
        + [parts[:number] + parts[number + 1 :] for number in scans],
        "one twice": [parts[: number + 1] + parts[number:] for number in scans],
        "another order": [[*parts[: scans[0]], *(parts[number] for number in reversed(scans))]],
        "no EOI": [parts],
        "tables between": [
            [
                *parts[: scans[1]],
                next(part for part in parts if part[1] == 0xDB),
                *parts[scans[1] :],
            ]
        ],
    }[keep]
    assert retile(joined(parts), tile_interval) is not None
    for some in changed:
        data = joined(some)
        assert retile(data[:-2] if keep == "no EOI" else data, tile_interval) is None


def test_a_truncated_file_is_left_to_others():
    data = jpeg(photograph(48, 40), progressive=True)
    assert all(retile(data[:end], tile_interval) is None for end in range(len(data)))
    assert all(
        retile(data[:end] + b"\xff\xd9", tile_interval) is None
        for end in range(0, len(data) - 10, 3)
    )


def test_scans_and_size_are_limited(monkeypatch):
    data = jpeg(photograph(48, 40), progressive=True)
    huge = bytearray(data)
    at = data.index(b"\xff\xc2")
    huge[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    assert retile(bytes(huge), tile_interval) is None
    monkeypatch.setattr(progressive, "_MAX_SCANS", 10)
    assert retile(data, tile_interval) is not None
    monkeypatch.setattr(progressive, "_MAX_SCANS", 9)
    assert retile(data, tile_interval) is None


def test_long_runs_of_zeros():
    """Blocks with one coefficient each: 16 zeros are a token of their own, what follows the last
    one is one too.
    """
    coefficients = np.zeros((500, 64), np.int16)
    coefficients[:, 0], coefficients[:250, 63], coefficients[250:, 33] = 7, -5, 1
    said = tokens_for(500, 64 * 500, KeptArrays())
    num = say_blocks(coefficients.ravel(), np.zeros(1, np.int64), said)
    assert (said.levels[:500] == 7).all()
    np.testing.assert_array_equal(said.counts[:500], 4)
    zeros = [0xF0 << 12 | 2048] * 2
    first, last = said.tokens[:4] & 0xFFFFF, said.tokens[num - 4 : num] & 0xFFFFF
    np.testing.assert_array_equal(first, [*zeros, zeros[0], 0xE3 << 12 | 2043])
    np.testing.assert_array_equal(last, [*zeros, 0x01 << 12 | 2049, 2048])
    assert said.frequencies[257 + 0xF0] == 250 * 5


def test_the_packer_keeps_progressive_originals():
    data = jpeg(photograph(200, 150), quality=77, progressive=True)
    packed = pack_image(data, ImageOptions())
    np.testing.assert_array_equal(
        simplejpeg.decode_jpeg(packed.images["jpg"]), simplejpeg.decode_jpeg(data)
    )


def test_real_photographs_keep_every_pixel(voc2012_root):
    for path in sorted((voc2012_root / "JPEGImages").glob("*.jpg"))[:20]:
        with Image.open(path) as image:
            check_same_pixels(jpeg(image, quality="keep", progressive=True))


def fuzz(seed: int, cases: int) -> None:
    """Damage files; raise AssertionError where one is taken but not to the pixels that it decodes
    to.
    """
    progressive._read_scan = in_bounds(progressive._read_scan)
    check_bounds()
    rng, accepted = np.random.default_rng(seed), 0
    whole = [
        jpeg(photograph(48, 40), quality=80, progressive=True, restart_marker_blocks=n)
        for n in (0, 1, 4)
    ]
    whole += [
        not_interleaved(33, 20, [(2, 2), (1, 1), (1, 1)], quality=80, progressive=p)
        for p in (False, True)
    ]
    for case in range(cases):
        data = bytearray(whole[case % len(whole)])
        for at in rng.integers(2, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256) if rng.random() < 0.5 else data[at] ^ 1 << rng.integers(8)
        if rng.random() < 0.2:
            start, end = sorted(rng.integers(2, len(data), 2))
            data[start : start + 30] = data[end : end + rng.integers(60)]
        tiled = retile(bytes(data), tile_interval)
        if tiled is not None:
            accepted += equal_if_sound(bytes(data), tiled)
    print(accepted, "equal")
    assert accepted > cases / 100


def check_bounds() -> None:
    """Tell what bounds checks find in what `retile` calls."""
    for name in ("read_tokens", "say_blocks"):
        setattr(retiling, name, in_bounds(getattr(retiling, name)))
    for name in ("plan_tiles", "write_tiles"):
        setattr(tile_file, name, in_bounds(getattr(tile_file, name)))


def in_bounds(compiled: Callable) -> Callable:
    """Tell what bounds checks find, which `retile` would take for damage."""

    def call(*arguments):
        try:
            return compiled(*arguments)
        except IndexError as error:
            raise AssertionError("out of bounds") from error

    return call


def equal_if_sound(data: bytes, tiled: bytes) -> bool:
    try:
        expected = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return False
    assert np.array_equal(simplejpeg.decode_jpeg(tiled, "RGB"), expected), data.hex()
    return True


@pytest.mark.slow
def test_damage_gives_no_other_pixels_and_reads_nothing_outside(tmp_path):
    """Numba's caches do not know of its bounds checks, so that these are compiled into a folder of
    their own.
    """
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", FUZZ, "0", "1000"],
        cwd=root,
        env=environment,
        check=True,
        timeout=300,
    )
