"""Pad and crop, mirror, cutout: the compiled pass is the plain one, the draws are uniform and
belong to the sample.
"""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from shards.augment.pad_crop import cut_out, draw_holes, draw_windows, pad_crop_into
from shards.choices import check_augmentation
from shards.errors import DataError

NUM_DRAWS = 40_000


def plainly(images: np.ndarray, numbers: np.ndarray, windows: np.ndarray, pad: int) -> np.ndarray:
    """Pad all images as numpy does, cut, mirror."""
    size = images.shape[1]
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    out = []
    for number, (left, top, mirrored) in zip(
        numbers, windows + np.array([pad, pad, 0]), strict=True
    ):
        view = padded[number, top : top + size, left : left + size]
        out.append(view[:, ::-1] if mirrored else view)
    return np.stack(out)


def with_holes_plainly(
    images: np.ndarray, holes: np.ndarray, cutout: int, colour: np.ndarray
) -> np.ndarray:
    """As the paper's code: clip the square's edges to the image."""
    out, size = images.copy(), images.shape[1]
    for image, (left, top) in zip(out, holes, strict=True):
        x, y = np.clip([left, left + cutout], 0, size), np.clip([top, top + cutout], 0, size)
        image[y[0] : y[1], x[0] : x[1]] = colour
    return out


@pytest.mark.parametrize(
    ("size", "pad", "channels"), [*product((5, 8, 33), (0, 1, 4), (1, 3, 4, 7)), (2, 1, 3)]
)
def test_one_compiled_pass_equals_numpy(size, pad, channels):
    rng = np.random.default_rng(size * 100 + pad * 10 + channels)
    images = rng.integers(0, 256, (9, size, size, channels), dtype=np.uint8)
    numbers = rng.integers(0, 9, 200)
    windows = draw_windows(np.arange(200), pad, seed=1, epoch=2)
    out = np.empty((200, size, size, channels), np.uint8)
    pad_crop_into(out, images, numbers, windows)
    np.testing.assert_array_equal(out, plainly(images, numbers, windows, pad))
    for cutout in (1, 2, 5, 2 * size - 1):
        colour, holes = (
            rng.integers(0, 256, channels, dtype=np.uint8),
            draw_holes(numbers, size, cutout, 1, 2),
        )
        cut = out.copy()
        cut_out(cut, holes, cutout, colour)
        np.testing.assert_array_equal(cut, with_holes_plainly(out, holes, cutout, colour))


@pytest.mark.parametrize("pad", [1, 4])
def test_windows_are_uniform_and_independent(pad):
    left, top, mirrored = draw_windows(np.arange(NUM_DRAWS), pad, seed=5, epoch=0).T
    together = (left + pad) * (2 * pad + 1) + top + pad
    counts = np.bincount(2 * together + mirrored, minlength=2 * (2 * pad + 1) ** 2)
    assert len(counts) == 2 * (2 * pad + 1) ** 2
    assert stats.chisquare(counts).pvalue > 0.001


def test_the_centre_of_a_hole_is_any_pixel():
    x, y = draw_holes(np.arange(NUM_DRAWS), 8, 5, seed=5, epoch=0).T + 2
    counts = np.bincount(8 * y + x, minlength=64)
    assert len(counts) == 64
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    "draw",
    [lambda ids, *at: draw_windows(ids, 4, *at), lambda ids, *at: draw_holes(ids, 32, 8, *at)],
)
def test_draws_are_of_seed_epoch_and_sample_alone(draw):
    ids = np.arange(500)
    whole, order = draw(ids, 3, 7), np.random.default_rng(0).permutation(500)
    np.testing.assert_array_equal(draw(ids[order], 3, 7), whole[order])
    np.testing.assert_array_equal(draw(ids[17:18], 3, 7), whole[17:18])
    for other in (draw(ids, 4, 7), draw(ids, 3, 8), draw(ids + 500, 3, 7)):
        assert (other == whole).all(1).mean() < 0.05


def test_what_cannot_be_done_is_refused():
    for arguments, says in (
        (("flip", 32, 4, 0), "augment is 'flip': give crop or pad"),
        (("pad", 4, 4, 0), "pad is 4: an image of 4 pixels can be reflected by 0 to 3"),
        (("pad", 4, -1, 0), "pad is -1"),
        (("crop", 32, 4, -1), "cutout is -1"),
        (("crop", 32, 4, 64), "cutout is 64: .* below 64"),
    ):
        with pytest.raises(DataError, match=says):
            check_augmentation(*arguments)
